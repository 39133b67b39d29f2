"""YFCC100M in OANet's layout: calibrated tourist photos with verified SIFT matches.

Pairs as in Open-UCN: images of one scene that share more than 100 points of its model, at most
10,000 a scene. Where a COLMAP model lies beside a scene, its tracks are the matches.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from ucn.arrays import Array
from ucn.errors import SkippedPair, UserError
from ucn.geometry.rigid import invert_rigid
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.labels.sift_features import propose_matches
from ucn.preprocessing.labels.verified_sift import VerifiedMatches, verify_matches
from ucn.preprocessing.sample import Candidates, PairGeometry, Sample
from ucn.preprocessing.sources.assemble import assemble_sample
from ucn.preprocessing.sources.base import PairRef, Source
from ucn.preprocessing.sources.sfm.colmap_files import model_files
from ucn.preprocessing.sources.yfcc.files import file_state, read_scene_lists, visible_pairs
from ucn.preprocessing.sources.yfcc.frames import FrameReader
from ucn.preprocessing.sources.yfcc.scenes import SCENES
from ucn.preprocessing.sources.yfcc.tracks import SampleParts, TrackReader, find_model

# In place of the frames where an official scene is not there.
_ABSENT = "absent"
# In units of the model, as in OANet.
_NO_BASELINE = 1e-5

_SceneName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]


class YfccConfig(PreprocessConfig):
    """YFCC100M's landmarks in OANet's layout: SIFT matches verified by the known geometry."""

    source: Literal["yfcc"] = "yfcc"
    root: str
    """Folder of the scenes, `yfcc100m` in OANet's raw data."""
    min_matches: int = Field(50, ge=1)
    """Pairs with fewer correspondences are skipped."""
    scenes: tuple[_SceneName, ...] = ()
    """Scenes to take, of which the folder named by --split is read; default Open-UCN's list."""
    min_visibility: int = Field(100, ge=0)
    """Images of a pair share more than this many points of the scene's model."""
    pairs_per_scene: int = Field(10_000, ge=1)
    """Most pairs of a scene, a seeded choice."""
    max_side: int = Field(1024, ge=64, le=8192)
    """Images of a longer side are reduced to it, and their intrinsics with them; pixels."""
    labels: Literal["auto", "sift", "tracks"] = "auto"
    """`tracks`: of the COLMAP model in a scene's folder, `sparse` or `colmap`; `sift`: SIFT matches
    that the geometry bears out; `auto`: tracks for the images that a model has, else SIFT."""
    max_reprojection: float = Field(2.0, gt=0)
    """Of tracks: bound of a match's reprojection error in either image, pixels."""
    features: int = Field(8000, ge=100, le=10_000)
    """Most SIFT features of an image."""
    max_ratio: float = Field(0.8, gt=0, le=1)
    """Bound of a match's descriptor distance over that of the next best match, both ways."""
    max_error: float = Field(1.0, gt=0, le=10)
    """Bound of the distance of a match's ends from their epipolar lines, pixels."""

    @model_validator(mode="after")
    def _known_split(self) -> "YfccConfig":
        if self.split not in SCENES:
            raise ValueError(f"no folder of a scene is called {self.split}; --split train|val|test")
        return self

    def open_source(self) -> Source:
        return YfccSource(self)


class YfccSource:
    """Pairs of images of the scenes under a root.

    Raises:
        UserError: no such folder, none of its scenes is there, or not one that is asked for.
    """

    def __init__(self, config: YfccConfig) -> None:
        self._config = config
        root = Path(config.root)
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; name the one that holds the scenes")
        names = sorted(set(config.scenes)) or SCENES[config.split]
        self._folders = {f"{name}-{config.split}": root / name / config.split for name in names}
        absent = [folder for folder in self._folders.values() if not folder.is_dir()]
        if absent and (config.scenes or len(absent) == len(names)):
            raise UserError(
                f"{absent[0]}: no such folder; --root must hold SCENE/{config.split}, "
                "of the scenes that --scenes names if not of the official ones"
            )
        self._lists = cache(lambda sequence: read_scene_lists(self._folders[sequence]))
        self._states = cache(self._image_state)
        self._model_states = cache(self._model_state)
        colour = config.images != "grey-png"
        self._frames = FrameReader(root, self._lists, config.max_side, config.features, colour)
        self._models = self._find_models()
        self._tracks = TrackReader(
            root, self._lists, self._models, config.max_side, config.max_reprojection, colour
        )

    def pairs(self) -> list[PairRef]:
        config = self._config
        pairs: list[PairRef] = []
        for sequence, folder in self._folders.items():
            if not folder.is_dir():
                pairs.append(PairRef(sequence, _ABSENT, _ABSENT))
                continue
            found_P2 = visible_pairs(self._lists(sequence), config.min_visibility)
            name = hashlib.sha256(sequence.encode()).digest()[:8]
            chosen = np.random.default_rng([config.seed, *name]).permutation(len(found_P2))
            chosen_P2 = found_P2[np.sort(chosen[: config.pairs_per_scene])]
            pairs += [PairRef(sequence, f"{i:06d}", f"{j:06d}") for i, j in chosen_P2.tolist()]
        if all(pair.frame0 == _ABSENT for pair in pairs):
            raise UserError(
                f"{config.root}: no two images share over {config.min_visibility} points; "
                "lower --min-visibility"
            )
        return pairs

    def key(self, pair: PairRef) -> str:
        return f"{pair.sequence}-{pair.frame0}-{pair.frame1}"

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        if pair.frame0 == _ABSENT:
            return [_ABSENT]
        states: list[Any] = [self._states(pair.sequence, int(frame)) for frame in pair[1:]]
        return [*states, self._model_states(pair.sequence)]

    def load(self, pair: PairRef) -> Sample:
        if pair.frame0 == _ABSENT:
            raise SkippedPair("absent scene", pair.sequence)
        by_tracks = self._config.labels == "tracks" or self._tracks.knows(pair)
        parts = self._tracks.read(pair) if by_tracks else self._match_sift(pair)
        return assemble_sample(self._config, self.key(pair), pair, *parts)

    def _match_sift(self, pair: PairRef) -> SampleParts:
        config = self._config
        frame0, frame1 = (self._frames.read(pair.sequence, int(frame)) for frame in pair[1:])
        view0, view1 = frame0.view, frame1.view
        T_1_0 = frame1.T_cam_world @ invert_rigid(frame0.T_cam_world)
        if np.linalg.norm(T_1_0[:3, 3]) <= _NO_BASELINE:
            raise SkippedPair("no baseline", f"{self.key(pair)}: both taken from one place")
        proposed = propose_matches(view0.features, view1.features)
        found = verify_matches(view0, view1, T_1_0, proposed, config.max_ratio, config.max_error)
        attributes: dict[str, Array] = {
            "depth0": found.depths_N2[:, 0],
            "depth1": found.depths_N2[:, 1],
            "error": found.error_N,
            "ratio": found.ratio_N,
        }
        return (
            (frame0.image, frame1.image),
            Candidates(found.matches_N4, attributes, found.rejected),
            PairGeometry("rigid", view0.K, view1.K, T_1_0, "model", _describe(found)),
        )

    def _find_models(self) -> dict[str, Path]:
        """Folders of the COLMAP models that are to be used, by sequence."""
        if self._config.labels == "sift":
            return {}
        found = {name: find_model(folder) for name, folder in self._folders.items()}
        lacking = [
            folder
            for name, folder in self._folders.items()
            if folder.is_dir() and found[name] is None
        ]
        if self._config.labels == "tracks" and lacking:
            raise UserError(
                f"{lacking[0]}: no COLMAP model in sparse or colmap, there or in the scene; "
                "choose --labels auto, or other --scenes"
            )
        return {name: model for name, model in found.items() if model is not None}

    def _image_state(self, sequence: str, index: int) -> list[str | int]:
        """The image's name and size in bytes, and a digest of its calibration."""
        lists = self._lists(sequence)
        image, calibration = lists.images[index], lists.calibrations[index]
        return [
            image,
            file_state(lists.folder / image, content=False),
            file_state(lists.folder / calibration, content=True),
        ]

    def _model_state(self, sequence: str) -> list[str | int]:
        """Digests of the model's files; none where there is no model."""
        if sequence not in self._models:
            return []
        return [file_state(path, content=True) for path in model_files(self._models[sequence])]


def _describe(found: VerifiedMatches) -> dict[str, Any]:
    """What labels these are, and how far detected points were moved onto their epipolar lines."""
    median, most = np.percentile(found.shift_N, [50, 95]) if len(found.shift_N) else (0.0, 0.0)
    return {
        "labels": "sift",
        "shift_median": round(float(median), 3),
        "shift_95_percent": round(float(most), 3),
    }
