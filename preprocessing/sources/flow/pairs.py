"""Options and file reader shared by the flow sources."""

from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from ucn.arrays import Array, Bools
from ucn.errors import SkippedPair
from ucn.images.flow_files import Flow, read_flow
from ucn.images.read import read_photo
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.labels.flow import FlowMatches, match_flow
from ucn.preprocessing.sample import Candidates, PairGeometry, Sample
from ucn.preprocessing.sources.assemble import assemble_sample
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.input_files import file_digest, file_state

# Two frames of each of Sintel's three passes: 8 MB.
_CACHED_PHOTOS = 6

Size = tuple[int, int]
Truth = tuple[Path, Path | None, Path | None, Path | None]
"""Flow, backward flow, and masks of occluded and invalid pixels."""


class FlowConfig(PreprocessConfig, ABC):
    """Options shared by the flow sources."""

    max_matches: int = Field(20_000, ge=0)
    """Maximum number of matches of a pair, a sample spread over the image; 0 keeps all."""


class TrainingFlowConfig(FlowConfig, ABC):
    """Options of benchmarks that publish ground truth for one training set only.

    That set is split here into train and val.
    """

    @field_validator("split")
    @classmethod
    def _split_exists(cls, split: str) -> str:
        if split not in ("train", "val", "all"):
            raise ValueError(f"{split} has no ground truth; choose train, val or all")
        return split

    def takes(self, held_out: bool) -> bool:
        """Whether the split includes a sequence.

        Args:
            held_out: whether the sequence is held out for validation.
        """
        return self.split == "all" or (self.split == "val") == held_out


@dataclass(frozen=True)
class FlowFiles:
    """The files and the geometry of a pair.

    Attributes:
        key: key of the sample.
        photo0, photo1: the images.
        flow: flow from image 0 to image 1, ``.flo`` or KITTI's PNG.
        backward: flow from image 1 to image 0.
        occluded: mask of the pixels of image 0 that are occluded in image 1.
        invalid: mask of the pixels of image 0 whose flow is invalid.
        objects: image of the object of each pixel of image 0; gives the attribute ``object``.
        geometry: geometry of the pair, or why there is none.
    """

    key: str
    photo0: Path
    photo1: Path
    flow: Path
    backward: Path | None = None
    occluded: Path | None = None
    invalid: Path | None = None
    objects: Path | None = None
    geometry: PairGeometry | SkippedPair = field(default_factory=lambda: PairGeometry("flow"))


@dataclass(frozen=True)
class FlowReader:
    """Makes the samples of some pairs. Picklable until the first pair is loaded.

    Attributes:
        config: the options.
        root: folder of all files; messages name files relative to it.
        files: files of each pair.
    """

    config: FlowConfig
    root: Path
    files: Mapping[PairRef, FlowFiles]

    def key(self, pair: PairRef) -> str:
        return self.files[pair].key

    def load(self, pair: PairRef) -> Sample:
        files = self.files[pair]
        images = self._photo(files.photo0), self._photo(files.photo1)
        size0, size1 = _size(images[0]), _size(images[1])
        truth = files.flow, files.backward, files.occluded, files.invalid
        found = self._matches(truth, size0, size1)
        attributes = {}
        if files.objects is not None:
            columns_N, rows_N = found.matches_N4[:, :2].T.astype(np.intp)
            attributes["object"] = self._labels(files.objects, size0)[rows_N, columns_N]
        if isinstance(files.geometry, SkippedPair):
            raise files.geometry
        candidates = Candidates(found.matches_N4, attributes, found.rejected)
        return assemble_sample(self.config, files.key, pair, images, candidates, files.geometry)

    @cached_property
    def _photo(self) -> Callable[[Path], Array]:
        return lru_cache(_CACHED_PHOTOS)(lambda path: read_photo(path, self.root))

    @cached_property
    def _matches(self) -> Callable[[Truth, Size, Size], FlowMatches]:
        return lru_cache(1)(self._match)

    def _labels(self, path: Path, size: Size) -> Array:
        """Read an image of 8-bit labels: uint8 [H, W].

        The label of a pixel in a colour image is its largest channel.

        Args:
            path: the file.
            size: expected (width, height).

        Raises:
            SkippedPair: the file is missing, damaged, or of another size.
        """
        labels: Array = read_photo(path, self.root, reduce=False)
        self._expect(path, labels, size)
        return labels.max(axis=2) if labels.ndim == 3 else labels

    def _match(self, truth: Truth, size0: Size, size1: Size) -> FlowMatches:
        flow, backward, occluded, invalid = truth
        return match_flow(
            self._flow(flow, size0),
            size1,
            backward_HW2=None if backward is None else self._flow(backward, size1),
            occluded_HW=self._mask(occluded, size0),
            invalid_HW=self._mask(invalid, size0),
        )

    def _flow(self, path: Path, size: Size) -> Flow:
        flow_HW2 = read_flow(path, self.root)
        self._expect(path, flow_HW2, size)
        return flow_HW2

    def _mask(self, path: Path | None, size: Size) -> Bools | None:
        return None if path is None else self._labels(path, size) > 0

    def _expect(self, path: Path, array: Array, size: Size) -> None:
        if _size(array) != size:
            found, expected = ("x".join(map(str, one)) for one in (_size(array), size))
            raise SkippedPair(
                "flow size differs", f"{_name(path, self.root)}: {found}, not {expected}"
            )


def sizes(root: Path, paths: Iterable[Path | None]) -> list[Any]:
    """Name and `file_state` of each path that is not None; -1 for missing files."""
    return [[_name(path, root), file_state(path)] for path in paths if path is not None]


def digests(root: Path, paths: Iterable[Path | None]) -> list[Any]:
    """Name and digest of each path that is not None; empty for missing files."""
    return [[_name(path, root), file_digest(path) or ""] for path in paths if path is not None]


def training_folder(root: Path) -> Path:
    """``root/training`` if it exists, else ``root``."""
    return root / "training" if (root / "training").is_dir() else root


def _size(array: Array) -> Size:
    return array.shape[1], array.shape[0]


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
