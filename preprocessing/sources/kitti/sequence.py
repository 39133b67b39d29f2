"""One recording of a camera and a LiDAR, as the driver of a job lists it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ucn.arrays import Floats
from ucn.errors import SkippedPair
from ucn.preprocessing.sources.input_files import file_state
from ucn.preprocessing.sources.kitti.files import Calibration
from ucn.preprocessing.sources.kitti.reader import FrameInputs, SequenceReader
from ucn.preprocessing.sources.kitti.tracklets import LabelledObject, cut_objects


class FrameFile(NamedTuple):
    """A file of one frame, and what identifies its content, see `file_state`."""

    path: Path
    state: Any


class FrameFiles:
    """Files of a folder that are named by frame numbers.

    Args:
        folder: the folder; it may be missing.
        suffixes: suffixes of the files, in any case; the first one that a frame has counts.
        digits: number of digits of the frame number.
    """

    def __init__(self, folder: Path, suffixes: tuple[str, ...], digits: int) -> None:
        self.folder = folder
        self._suffixes = suffixes
        self._digits = digits

    @cached_property
    def by_frame(self) -> dict[int, FrameFile]:
        """Files by frame number."""
        if not self.folder.is_dir():
            return {}
        found: dict[tuple[int, int], FrameFile] = {}
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name):
            stem, suffix = path.stem, path.suffix.lower()
            if len(stem) == self._digits and stem.isdecimal() and suffix in self._suffixes:
                file = FrameFile(path, file_state(path))
                found[int(stem), self._suffixes.index(suffix)] = file
        # Later entries replace earlier ones.
        return {frame: found[frame, rank] for frame, rank in sorted(found, reverse=True)}

    def path(self, frame: int) -> Path:
        """File of a frame; where it would be if there is none."""
        file = self.by_frame.get(frame)
        usual = f"{frame:0{self._digits}d}{self._suffixes[0]}"
        return file.path if file else self.folder / usual

    def state(self, frame: int) -> Any:
        """What identifies the content of a frame's file; -1 if there is none."""
        file = self.by_frame.get(frame)
        return file.state if file else -1


class LidarSequence(ABC):
    """One recording of a camera and a LiDAR.

    Attributes:
        name: unique in the dataset.
        digits: number of digits of frame numbers in file names.
        images, scans: files of the two sensors.
        others: other files of the frames, which fingerprints name too.
    """

    name: str
    digits: int
    images: FrameFiles
    scans: FrameFiles
    others: FrameFiles

    def __init__(self) -> None:
        self.pose = cache(self._pose_or_reason)

    @property
    @abstractmethod
    def calibration(self) -> Calibration:
        """Calibration of the camera and the LiDAR."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Digest of the small files that affect every pair."""

    @property
    def objects(self) -> tuple[LabelledObject, ...]:
        """Objects that are labelled by boxes."""
        return ()

    @abstractmethod
    def camera_pose(self, frame: int) -> Floats:
        """``T_world_cam`` of the frame.

        Raises:
            SkippedPair: the pose is unknown.
        """

    def labels(self, frame: int) -> Path | None:
        """File of the semantic labels of the frame's scan; None if there is none."""
        return None

    @cached_property
    def frames(self) -> list[int]:
        """Ascending numbers of the frames that have at least one file."""
        return sorted(set().union(*(files.by_frame for files in self._streams)))

    def states(self, frame: int) -> list[Any]:
        """What identifies the content of the frame's files; -1 for missing files."""
        return [files.state(frame) for files in self._streams]

    def reader(self, frames: Iterable[int]) -> SequenceReader:
        """What is needed to read some of the frames.

        Raises:
            UserError: a file that affects every pair is missing or damaged.
        """
        numbers = sorted(set(frames))
        inputs = {
            frame: FrameInputs(
                self.images.path(frame),
                self.scans.path(frame),
                self.labels(frame),
                self.pose(frame),
            )
            for frame in numbers
        }
        return SequenceReader(self.calibration, inputs, cut_objects(self.objects, numbers))

    @property
    def _streams(self) -> tuple[FrameFiles, FrameFiles, FrameFiles]:
        return self.images, self.scans, self.others

    def _pose_or_reason(self, frame: int) -> Floats | SkippedPair:
        try:
            return self.camera_pose(frame)
        except SkippedPair as skipped:
            return skipped
