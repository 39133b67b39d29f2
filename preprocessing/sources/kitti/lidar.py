"""Makes samples from frame pairs of LiDAR sequences, chosen by frame distance or by overlap."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field, field_validator, model_validator

from ucn.arrays import Array
from ucn.errors import SkippedPair, UserError
from ucn.geometry.rigid import invert_rigid
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.labels.lidar.pairs import match_scans
from ucn.preprocessing.sample import Candidates, PairGeometry, Sample
from ucn.preprocessing.sources.assemble import assemble_sample
from ucn.preprocessing.sources.base import PairReader, PairRef
from ucn.preprocessing.sources.kitti.overlap import pair_by_overlap
from ucn.preprocessing.sources.kitti.reader import (
    CAMERA_HEIGHT,
    LidarFrame,
    SequenceReader,
    camera_model,
)
from ucn.preprocessing.sources.kitti.semantic import CLASS_NAMES
from ucn.preprocessing.sources.kitti.sequence import LidarSequence

logger = logging.getLogger(__name__)

Camera = Literal[0, 1, 2, 3]

_Positive = Annotated[int, Field(ge=1)]
_Share = Annotated[float, Field(gt=0, lt=1)]

# A pose is rejected if a larger share of the tracks on the road contradicts it. The bound is high
# because some tracks fail.
_MAX_POSE_INCONSISTENCY = 0.5
_UNKNOWN_POSE = np.full((4, 4), np.nan)


class LidarConfig(PreprocessConfig):
    """Options shared by the LiDAR sources."""

    root: str
    """Folder of the dataset."""
    camera: Camera = 2
    """Camera: 0 and 1 are grey, 2 and 3 are colour; 0 and 2 are the left cameras."""
    cameras: tuple[Camera | Literal["all"], ...] = ()
    """Several cameras instead of --camera, such as 2 3, or all; pairs are of one camera each."""
    gaps: tuple[_Positive, ...] = (1, 2, 5)
    """Distances between the two images of a pair, in frames."""
    overlaps: tuple[_Share, ...] = ()
    """Choose pairs by view overlap, such as 0.8 0.6 0.4, instead of by --gaps."""
    max_gap: int = Field(30, ge=1, le=1000)
    """With --overlaps: largest distance between the two images of a pair, in frames."""
    min_overlap: float = Field(0.0, ge=0, lt=1)
    """Skip pairs where image 1 shows a smaller share of the LiDAR points of image 0."""
    min_motion: float = Field(0.0, ge=0)
    """Skip pairs whose cameras are closer to each other, in metres."""

    @property
    def wanted_cameras(self) -> tuple[Camera, ...]:
        """The cameras of --camera or --cameras."""
        named = tuple(camera for camera in self.cameras if camera != "all")
        return get_args(Camera) if self.takes_all else named or (self.camera,)

    @property
    def takes_all(self) -> bool:
        """Whether all cameras that have images are wanted."""
        return "all" in self.cameras

    @field_validator("gaps", "overlaps", "cameras")
    @classmethod
    def _in_order(cls, values: tuple[float | str, ...]) -> tuple[float | str, ...]:
        return tuple(sorted(set(values), key=str if "all" in values else None))

    @model_validator(mode="after")
    def _some_pairs(self) -> "LidarConfig":
        if not self.gaps and not self.overlaps:
            raise ValueError("name at least one frame distance, such as --gaps 1, or --overlaps")
        return self


def open_lidar(
    config: LidarConfig, recordings: Sequence[Callable[[int], LidarSequence]]
) -> "LidarSource":
    """Source of the wanted cameras of some recordings.

    Args:
        config: the options.
        recordings: opens a camera of each recording.

    Raises:
        UserError: a camera of --cameras has no images.
    """
    sequences = [opened(camera) for opened in recordings for camera in config.wanted_cameras]
    if config.cameras:
        there = [sequence for sequence in sequences if sequence.images.by_frame]
        if config.takes_all and there:
            names = sorted({sequence.name.rpartition("-")[2] for sequence in there})
            logger.warning("%s: takes %s", config.root, ", ".join(names))
        elif len(there) < len(sequences):
            missing = next(sequence for sequence in sequences if not sequence.images.by_frame)
            raise UserError(
                f"{missing.images.folder}: holds no images; unpack them there, or leave the camera "
                "out of --cameras"
            )
        sequences = there
    return LidarSource(config, sequences)


class LidarSource:
    """Frame pairs of LiDAR sequences.

    Args:
        config: the options.
        sequences: at least one sequence.
    """

    def __init__(self, config: LidarConfig, sequences: Sequence[LidarSequence]) -> None:
        self._config = config
        self._sequences = {sequence.name: sequence for sequence in sequences}
        self._whole = lru_cache(1)(self._read_whole)

    def pairs(self) -> list[PairRef]:
        pairs = [
            PairRef(name, f"{first:0{sequence.digits}d}", f"{second:0{sequence.digits}d}")
            for name, sequence in self._sequences.items()
            for first, second in self._frame_pairs(sequence)
        ]
        if not pairs:
            gaps = " or ".join(map(str, self._config.gaps))
            raise UserError(
                f"{self._config.root}: no two frames share the view as --overlaps asks; change it"
                if self._config.overlaps
                else f"{self._config.root}: no two frames lie {gaps} apart; choose other --gaps"
            )
        return pairs

    def _frame_pairs(self, sequence: LidarSequence) -> list[tuple[int, int]]:
        frames = sequence.frames
        # Damage of a file that affects every pair is reported before the first pair is made.
        sequence.reader(frames[:1])
        if not self._config.overlaps:
            known = set(frames)
            return [
                (frame, frame + gap)
                for frame in frames
                for gap in self._config.gaps
                if frame + gap in known
            ]
        poses = [sequence.pose(frame) for frame in frames]
        return pair_by_overlap(
            frames,
            np.array(
                [_UNKNOWN_POSE if isinstance(pose, SkippedPair) else pose for pose in poses]
            ).reshape(-1, 4, 4),
            camera_model(sequence.calibration),
            CAMERA_HEIGHT,
            self._config.overlaps,
            self._config.max_gap,
        )

    def key(self, pair: PairRef) -> str:
        return _key(pair)

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        sequence = self._sequences[pair.sequence]
        return [sequence.digest, *(sequence.states(int(frame)) for frame in pair[1:])]

    def reader(self, pairs: Sequence[PairRef]) -> PairReader:
        frames: dict[str, list[int]] = defaultdict(list)
        for pair in pairs:
            frames[pair.sequence] += int(pair.frame0), int(pair.frame1)
        return LidarReader(
            self._config,
            {name: self._sequences[name].reader(numbers) for name, numbers in frames.items()},
        )

    def load(self, pair: PairRef) -> Sample:
        return self._whole(pair.sequence).load(pair)

    def _read_whole(self, name: str) -> "LidarReader":
        sequence = self._sequences[name]
        return LidarReader(self._config, {name: sequence.reader(sequence.frames)})


class LidarReader:
    """Makes samples of frame pairs. Picklable.

    Args:
        config: the options.
        sequences: readers of the frames of the pairs, by sequence.
    """

    def __init__(self, config: LidarConfig, sequences: Mapping[str, SequenceReader]) -> None:
        self._config = config
        self._sequences = sequences

    def key(self, pair: PairRef) -> str:
        return _key(pair)

    def load(self, pair: PairRef) -> Sample:
        sequence = self._sequences[pair.sequence]
        number0, number1 = int(pair.frame0), int(pair.frame1)
        frame0, frame1 = sequence.read(number0), sequence.read(number1)
        T_1_0 = invert_rigid(frame1.T_world_cam) @ frame0.T_world_cam
        motion = float(np.linalg.norm(T_1_0[:3, 3]))
        if motion < self._config.min_motion:
            raise SkippedPair(
                "too little motion", f"{motion:.2f} m of at least {self._config.min_motion:g} m"
            )
        found = match_scans(
            frame0.view,
            frame1.view,
            T_1_0,
            sequence.rig,
            sequence.on_dynamic_object(number0, number1),
            (frame0.tracked, frame1.tracked),
        )
        if found.pose_inconsistency > _MAX_POSE_INCONSISTENCY:
            raise SkippedPair(
                "pose contradicts the images",
                f"{found.pose_inconsistency:.0%} of the road's tracks",
            )
        shown = len(frame0.view.hidden_N) - int(np.count_nonzero(frame0.view.hidden_N))
        overlap = round(len(found.index_M) / max(shown, 1), 4)
        if overlap < self._config.min_overlap:
            raise SkippedPair(
                "too little overlap", f"{overlap:.2f} of at least {self._config.min_overlap}"
            )
        classes, more = _classes(frame0, found.index_M)
        no_return = {"no return": frame0.no_return} if frame0.no_return else {}
        K = sequence.calibration.K
        return assemble_sample(
            self._config,
            _key(pair),
            pair,
            (frame0.image, frame1.image),
            Candidates(
                found.matches_N4,
                {"depth0": found.depth0_N, "depth1": found.depth1_N} | classes,
                found.rejected | no_return,
            ),
            PairGeometry("rigid", K, K, T_1_0, "metre", {"overlap": overlap} | more),
        )


def _key(pair: PairRef) -> str:
    return f"{pair.sequence}-{pair.frame0}-{pair.frame1}"


def _classes(frame: LidarFrame, index_M: Array) -> tuple[dict[str, Array], dict[str, Any]]:
    """Semantic class of each match, and matches per class. Both are empty without labels."""
    if frame.classes_N is None:
        return {}, {}
    classes_M = frame.classes_N.take(index_M)
    counts = Counter(classes_M.tolist())
    shown = {number: CLASS_NAMES.get(number, str(number)) for number in sorted(counts)}
    return {"class": classes_M}, {
        "classes": {name: counts[number] for number, name in shown.items()},
        "class_names": {str(number): name for number, name in shown.items()},
    }
