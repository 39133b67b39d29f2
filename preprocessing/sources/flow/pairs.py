"""Options and file reader shared by the flow sources."""

from abc import ABC
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from ucn.arrays import Array, Bools
from ucn.errors import SkippedPair
from ucn.images.flow_files import Flow, read_flow
from ucn.images.read import read_photo
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.labels.flow import FlowMatches, match_flow
from ucn.preprocessing.sources.input_files import file_digest, file_state

# Two frames of each of Sintel's three passes: 8 MB.
_CACHED_PHOTOS = 6

Size = tuple[int, int]


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
    """The files of a pair.

    Attributes:
        photo0, photo1: the images.
        flow: flow from image 0 to image 1, ``.flo`` or KITTI's PNG.
        backward: flow from image 1 to image 0.
        occluded: mask of the pixels of image 0 that are occluded in image 1.
        invalid: mask of the pixels of image 0 whose flow is invalid.
    """

    photo0: Path
    photo1: Path
    flow: Path
    backward: Path | None = None
    occluded: Path | None = None
    invalid: Path | None = None


class FlowReader:
    """Reads image pairs and their flow, and caches the most recent ones.

    Args:
        root: folder of all files; messages name files relative to it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._photo = lru_cache(_CACHED_PHOTOS)(lambda path: read_photo(path, root))
        self._matches = lru_cache(1)(self._match)

    def read(self, files: FlowFiles) -> tuple[tuple[Array, Array], FlowMatches]:
        """Read the two images, uint8 grey or RGB, and their matches.

        Raises:
            SkippedPair: a file is missing or damaged, or its size differs.
        """
        images: tuple[Array, Array] = self._photo(files.photo0), self._photo(files.photo1)
        truth = files.flow, files.backward, files.occluded, files.invalid
        return images, self._matches(truth, _size(images[0]), _size(images[1]))

    def labels(self, path: Path, size: Size) -> Array:
        """Read an image of 8-bit labels: uint8 [H, W].

        The label of a pixel in a colour image is its largest channel.

        Args:
            path: the file.
            size: expected (width, height).

        Raises:
            SkippedPair: the file is missing, damaged, or of another size.
        """
        labels: Array = read_photo(path, self._root, reduce=False)
        self._expect(path, labels, size)
        return labels.max(axis=2) if labels.ndim == 3 else labels

    def sizes(self, paths: Iterable[Path | None]) -> list[Any]:
        """Name and `file_state` of each path that is not None; -1 for missing files."""
        return [[self._name(path), file_state(path)] for path in paths if path is not None]

    def digests(self, paths: Iterable[Path | None]) -> list[Any]:
        """Name and digest of each path that is not None; empty for missing files."""
        return [[self._name(path), file_digest(path) or ""] for path in paths if path is not None]

    def _match(
        self,
        truth: tuple[Path, Path | None, Path | None, Path | None],
        size0: Size,
        size1: Size,
    ) -> FlowMatches:
        flow, backward, occluded, invalid = truth
        return match_flow(
            self._flow(flow, size0),
            size1,
            backward_HW2=None if backward is None else self._flow(backward, size1),
            occluded_HW=self._mask(occluded, size0),
            invalid_HW=self._mask(invalid, size0),
        )

    def _flow(self, path: Path, size: Size) -> Flow:
        flow_HW2 = read_flow(path, self._root)
        self._expect(path, flow_HW2, size)
        return flow_HW2

    def _mask(self, path: Path | None, size: Size) -> Bools | None:
        return None if path is None else self.labels(path, size) > 0

    def _expect(self, path: Path, array: Array, size: Size) -> None:
        if _size(array) != size:
            found, expected = ("x".join(map(str, one)) for one in (_size(array), size))
            raise SkippedPair("flow size differs", f"{self._name(path)}: {found}, not {expected}")

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def training_folder(root: Path) -> Path:
    """``root/training`` if it exists, else ``root``."""
    return root / "training" if (root / "training").is_dir() else root


def _size(array: Array) -> Size:
    return array.shape[1], array.shape[0]
