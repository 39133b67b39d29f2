"""MPI-Sintel: rendered frames with flow to the next frame (Butler et al., ECCV 2012).

Layout: ``training/{clean,final,albedo}/SEQ/frame_NNNN.png`` and
``training/flow/SEQ/frame_NNNN.flo``. Optional: masks in ``occlusions`` and ``invalid``, cameras in
``camdata_left``.
"""

import logging
import re
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import field_validator

from ucn.arrays import Floats
from ucn.errors import SkippedPair, UserError
from ucn.geometry.rigid import invert_rigid
from ucn.preprocessing.sample import PairGeometry, Sample
from ucn.preprocessing.sources.archive import is_archive, open_root
from ucn.preprocessing.sources.base import PairReader, PairRef, Source
from ucn.preprocessing.sources.flow.pairs import (
    FlowFiles,
    FlowReader,
    TrainingFlowConfig,
    digests,
    sizes,
    training_folder,
)
from ucn.preprocessing.sources.input_files import find_photo, list_names

logger = logging.getLogger(__name__)

Pass = Literal["clean", "final", "albedo"]

_DEFAULT_PASSES: tuple[Pass, ...] = ("clean", "final")
# About 23 % of the pairs. Training and validation sequences show different locations.
VAL_SEQUENCES = ("bamboo_1", "bamboo_2", "cave_2", "cave_4", "mountain_1")

_FRAME = re.compile(r"frame_(\d{4})\.flo")
# Tag, K and [R | t], row by row, as in sintel_io.py of the depth and camera package.
_CAMERA = struct.Struct("<f9d12d")
_CAMERA_TAG = 202021.25
_ARCHIVE = "MPI-Sintel-complete.zip"


class SintelConfig(TrainingFlowConfig):
    """MPI-Sintel: successive frames of a rendered film, with true flow."""

    source: Literal["sintel"] = "sintel"
    root: str
    """Folder of MPI-Sintel, the `training` folder in it, or MPI-Sintel-complete.zip."""
    passes: tuple[Pass, ...] = _DEFAULT_PASSES
    """Render passes, each a separate sequence; default those of the two that are there."""

    @field_validator("passes")
    @classmethod
    def _passes_in_order(cls, passes: tuple[Pass, ...]) -> tuple[Pass, ...]:
        if not passes:
            raise ValueError("name at least one rendering, such as --passes clean")
        return tuple(sorted(set(passes)))

    def open_source(self) -> Source:
        return SintelSource(self)


class SintelSource:
    """Pairs of successive frames. The render passes of one frame follow each other.

    Raises:
        UserError: the folder of the flow or of a render pass is missing.
    """

    def __init__(self, config: SintelConfig) -> None:
        self._config = config
        root = Path(config.root)
        if not (training_folder(root) / "flow").is_dir() and is_archive(root / _ARCHIVE):
            root /= _ARCHIVE
        self._folder = training_folder(open_root(root))
        self._there = {
            name
            for name in ("occlusions", "invalid", "camdata_left")
            if (self._folder / name).is_dir()
        }
        self._passes = config.passes
        if config.passes == _DEFAULT_PASSES:
            there = [name for name in config.passes if (self._folder / name).is_dir()]
            self._passes = tuple(there) or config.passes
        for name in ("flow", *self._passes):
            if not (self._folder / name).is_dir():
                raise UserError(
                    f"{self._folder / name}: no such folder; pass the folder of MPI-Sintel that "
                    f"holds training/{name}, or choose other --passes"
                )

    def pairs(self) -> list[PairRef]:
        if missing := sorted(set(self._config.passes) - set(self._passes)):
            logger.warning("%s: has no pass %s; takes %s", self._folder, *missing, *self._passes)
        pairs = [
            PairRef(f"{rendering}-{folder.name}", f"{number:04d}", f"{number + 1:04d}")
            for folder in sorted((self._folder / "flow").iterdir())
            if folder.is_dir() and self._config.takes(folder.name in VAL_SEQUENCES)
            for number in sorted(int(m[1]) for m in map(_FRAME.fullmatch, list_names(folder)) if m)
            for rendering in self._passes
        ]
        if not pairs:
            raise UserError(
                f"{self._folder / 'flow'}: no SEQUENCE/frame_NNNN.flo of the split "
                f"{self._config.split}; download Sintel's flow, or choose another --split"
            )
        return pairs

    def key(self, pair: PairRef) -> str:
        return f"{pair.sequence}-{pair.frame0}-{pair.frame1}"

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        files = self._files(pair)
        paths = files.photo0, files.photo1, files.flow, files.occluded, files.invalid
        return [*sizes(self._folder, paths), *digests(self._folder, self._cameras(pair))]

    def reader(self, pairs: Sequence[PairRef]) -> PairReader:
        return FlowReader(
            self._config,
            self._folder,
            {pair: replace(self._files(pair), geometry=self._geometry(pair)) for pair in pairs},
        )

    def load(self, pair: PairRef) -> Sample:
        return self.reader([pair]).load(pair)

    def _files(self, pair: PairRef) -> FlowFiles:
        photos = self._folder / pair.sequence.partition("-")[0] / _sequence(pair)
        return FlowFiles(
            key=self.key(pair),
            photo0=find_photo(photos / f"frame_{pair.frame0}.png"),
            photo1=find_photo(photos / f"frame_{pair.frame1}.png"),
            flow=self._folder / "flow" / _sequence(pair) / f"frame_{pair.frame0}.flo",
            occluded=self._optional("occlusions", pair, pair.frame0, ".png"),
            invalid=self._optional("invalid", pair, pair.frame0, ".png"),
        )

    def _cameras(self, pair: PairRef) -> list[Path]:
        found = [self._optional("camdata_left", pair, frame, ".cam") for frame in pair[1:]]
        return [path for path in found if path is not None]

    def _optional(self, name: str, pair: PairRef, frame: str, suffix: str) -> Path | None:
        """Path of a file in an optional folder; None if the folder is missing."""
        if name not in self._there:
            return None
        return self._folder / name / _sequence(pair) / f"frame_{frame}{suffix}"

    def _geometry(self, pair: PairRef) -> PairGeometry | SkippedPair:
        try:
            cameras = [read_camera(path, self._folder) for path in self._cameras(pair)]
        except SkippedPair as damaged:
            return damaged
        if not cameras:
            return PairGeometry("flow")
        (K0, T_cam0_world), (K1, T_cam1_world) = cameras
        T_1_0 = T_cam1_world @ invert_rigid(T_cam0_world)
        return PairGeometry("flow", K0, K1, T_1_0, "model")


def read_camera(path: Path, root: Path) -> tuple[Floats, Floats]:
    """Read a ``.cam`` file: K and the 4x4 ``T_cam_world``.

    The principal points of Sintel's cameras are ((w - 1) / 2, (h - 1) / 2). The centre of the
    top-left pixel is therefore at (0, 0), the convention of this project.

    Args:
        path: the file.
        root: folder of the dataset; messages name the file relative to it.

    Raises:
        SkippedPair: the file is missing or damaged.
    """
    name = path.relative_to(root).as_posix()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SkippedPair("missing camera", name) from None
    except OSError as error:
        raise SkippedPair("damaged camera", f"{name}: {error.strerror}") from None
    if len(data) != _CAMERA.size:
        raise SkippedPair("damaged camera", f"{name}: {len(data)} bytes of {_CAMERA.size}")
    tag, *values = _CAMERA.unpack(data)
    if tag != _CAMERA_TAG or not np.isfinite(values).all():
        raise SkippedPair("damaged camera", f"{name}: not a camera file")
    T_cam_world = np.eye(4)
    T_cam_world[:3] = np.reshape(values[9:], (3, 4))
    return np.reshape(values[:9], (3, 3)), T_cam_world


def _sequence(pair: PairRef) -> str:
    return pair.sequence.partition("-")[2]
