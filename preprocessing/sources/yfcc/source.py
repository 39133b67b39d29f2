"""YFCC100M in OANet's layout: calibrated tourist photos with verified SIFT matches.

Pairs are chosen as in Open-UCN: images of one scene that share more than 100 points of its model,
at most 10,000 pairs per scene. If a scene has a COLMAP model, its tracks are the matches.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from ucn.errors import SkippedPair, UserError
from ucn.geometry.sfm_model import SfmModel, select_pairs
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.sources.assemble import assemble_sample
from ucn.preprocessing.sources.base import PairRef, Source
from ucn.preprocessing.sources.input_files import file_digest, file_size
from ucn.preprocessing.sources.pairs_file import PairsFile, find_listed_pairs
from ucn.preprocessing.sources.sfm.colmap_files import model_files, read_colmap_model
from ucn.preprocessing.sources.yfcc.files import (
    Camera,
    read_camera,
    read_scene_lists,
    visible_pairs,
)
from ucn.preprocessing.sources.yfcc.frames import FrameId, FrameReader, ListedImages
from ucn.preprocessing.sources.yfcc.scenes import SCENES
from ucn.preprocessing.sources.yfcc.tracks import TrackReader, find_model

# Takes the place of the frame names for a missing official scene.
_ABSENT = "absent"
# Cameras of about one scene. A camera takes 1 KB.
_CACHED_CAMERAS = 4096

_SceneName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]


class YfccConfig(PreprocessConfig):
    """YFCC100M's landmarks in OANet's layout: SIFT matches verified by the known geometry."""

    source: Literal["yfcc"] = "yfcc"
    root: str
    """Folder of the scenes, `yfcc100m` in OANet's raw data."""
    min_matches: int = Field(50, ge=1)
    """Minimum number of matches of a pair; other pairs are skipped."""
    scenes: tuple[_SceneName, ...] = ()
    """Scenes to take, from their folder named by --split; default Open-UCN's list."""
    min_visibility: int = Field(100, ge=0)
    """Take pairs of images that share more than this many points of the scene's model."""
    pairs_file: PairsFile | None = None
    """List of pairs to take, two names a line; replaces the choice by visibility and number."""
    pairs_per_scene: int = Field(10_000, ge=1)
    """Maximum number of pairs of a scene, chosen at random by the seed."""
    max_side: int = Field(1024, ge=64, le=8192)
    """Maximum length of an image's longer side, pixels; larger images are reduced."""
    labels: Literal["auto", "sift", "tracks"] = "auto"
    """`tracks`: tracks of the COLMAP model in `sparse` or `colmap` in a scene's folder; `sift`:
    SIFT matches verified by the geometry; `auto`: tracks if the model has both images, else SIFT.
    """
    max_reprojection: float = Field(2.0, gt=0)
    """With tracks: maximum reprojection error of a match in either image, pixels."""
    features: int = Field(8000, ge=100, le=10_000)
    """Maximum number of SIFT features of an image."""
    max_ratio: float = Field(0.8, gt=0, le=1)
    """With SIFT: maximum ratio of best to second-best descriptor distance, in both directions."""
    max_error: float = Field(1.0, gt=0, le=10)
    """With SIFT: maximum distance of a matched point from its epipolar line, pixels."""

    @model_validator(mode="after")
    def _known_split(self) -> "YfccConfig":
        if self.split not in SCENES:
            raise ValueError(f"no folder of a scene is called {self.split}; --split train|val|test")
        return self

    def open_source(self) -> Source:
        return YfccSource(self)


class YfccSource:
    """Image pairs of the scenes in a folder.

    Raises:
        UserError: the folder is missing, has no scenes, or lacks a scene named in the options.
    """

    def __init__(self, config: YfccConfig) -> None:
        self._config = config
        root = self._root = Path(config.root)
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
        self._models = self._find_models()
        # A shard may end one scene and begin the next.
        self._model = lru_cache(2)(self._read_model)
        self._camera = lru_cache(_CACHED_CAMERAS)(self._read_camera)

    def pairs(self) -> list[PairRef]:
        config = self._config
        if config.pairs_file is not None:
            return find_listed_pairs(Path(config.pairs_file), self._places(), self._listed)
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

    def _places(self) -> list[tuple[str, str]]:
        """Beginnings of the names in a list of pairs, and the sequences that they stand for."""
        return [
            (prefix.relative_to(self._root).as_posix(), name)
            for name, folder in self._folders.items()
            if folder.is_dir()
            for prefix in (folder, folder.parent)
        ]

    def _listed(self, sequence: str) -> dict[str, str]:
        """Frames of a sequence, by names of images with and without their folders."""
        images = self._lists(sequence).images
        plain = {PurePosixPath(name).name: f"{index:06d}" for index, name in enumerate(images)}
        return plain | {name: f"{index:06d}" for index, name in enumerate(images)}

    def key(self, pair: PairRef) -> str:
        return "-".join(pair)

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        if pair.frame0 == _ABSENT:
            return [_ABSENT]
        states: list[Any] = [self._states(pair.sequence, int(frame)) for frame in pair[1:]]
        return [*states, self._model_states(pair.sequence)]

    def reader(self, pairs: Sequence[PairRef]) -> "YfccReader":
        config = self._config
        frames = {
            pair: ((pair.sequence, pair.frame0), (pair.sequence, pair.frame1))
            for pair in pairs
            if pair.frame0 != _ABSENT
        }
        all_frames = dict.fromkeys(frame for both in frames.values() for frame in both)
        posed = {frame: name for frame in all_frames if (name := self._posed(*frame))}
        shared: dict[str, list[tuple[str, str]]] = {}
        cameras: dict[FrameId, Camera | SkippedPair] = {}
        for pair, (frame0, frame1) in frames.items():
            if frame0 in posed and frame1 in posed:
                shared.setdefault(pair.sequence, []).append((posed[frame0], posed[frame1]))
            elif config.labels != "tracks":
                cameras |= {frame: self._camera(*frame) for frame in (frame0, frame1)}
        files = ListedImages(
            self._root,
            {sequence: self._folders[sequence] for sequence, _ in all_frames},
            {frame: self._lists(frame[0]).images[int(frame[1])] for frame in all_frames},
        )
        models = {name: select_pairs(self._model(name)[0], own) for name, own in shared.items()}
        side, error, colour = config.max_side, config.max_reprojection, config.images != "grey-png"
        return YfccReader(
            config,
            FrameReader(
                files, cameras, side, config.features, config.max_ratio, config.max_error, colour
            ),
            TrackReader(files, models, posed, side, error, colour),
        )

    def load(self, pair: PairRef) -> Sample:
        return self.reader([pair]).load(pair)

    def _posed(self, sequence: str, frame: str) -> str | None:
        """Name in the model of a listed image. None if there is no model, or not in the model."""
        if sequence not in self._models:
            return None
        listed = self._lists(sequence).images[int(frame)]
        return self._model(sequence)[1].get(PurePosixPath(listed).name)

    def _read_camera(self, sequence: str, frame: str) -> Camera | SkippedPair:
        lists = self._lists(sequence)
        try:
            return read_camera(lists.folder / lists.calibrations[int(frame)], self._root)
        except SkippedPair as skipped:
            return skipped

    def _read_model(self, sequence: str) -> tuple[SfmModel, dict[str, str]]:
        """Read the model, and map the file names (without folders) of its usable images to them."""
        model = read_colmap_model(self._models[sequence])
        names = [image.name for image in model.images if not image.fault]
        return model, {PurePosixPath(name).name: name for name in names}

    def _find_models(self) -> dict[str, Path]:
        """Folders of the COLMAP models to use, by sequence."""
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
        """Name and size in bytes of an image, and digest of its calibration."""
        lists = self._lists(sequence)
        image, calibration = lists.images[index], lists.calibrations[index]
        return [
            image,
            file_size(lists.folder / image),
            file_digest(lists.folder / calibration) or -1,
        ]

    def _model_state(self, sequence: str) -> list[str | int]:
        """Digests of the model's files; empty without a model."""
        if sequence not in self._models:
            return []
        return [file_digest(path) or -1 for path in model_files(self._models[sequence])]


@dataclass(frozen=True)
class YfccReader:
    """Makes the samples of some pairs. Picklable until the first pair is loaded.

    Attributes:
        config: the options.
        frames: SIFT matches.
        tracks: matches from models.
    """

    config: YfccConfig
    frames: FrameReader
    tracks: TrackReader

    def key(self, pair: PairRef) -> str:
        return "-".join(pair)

    def load(self, pair: PairRef) -> Sample:
        if pair.frame0 == _ABSENT:
            raise SkippedPair("absent scene", pair.sequence)
        posed = all((pair.sequence, frame) in self.tracks.posed for frame in pair[1:])
        by_tracks = posed or self.config.labels == "tracks"
        parts = self.tracks.read(pair) if by_tracks else self.frames.match(pair)
        return assemble_sample(self.config, self.key(pair), pair, *parts)
