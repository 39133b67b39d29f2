"""CUB-200-2011: birds of 200 species with 15 labelled parts.

Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", Technical Report CNS-TR-2011-001, 2011. The
layout is that of the extracted archive ``CUB_200_2011.tgz``, described in its README.

Coordinates are taken as 0-based pixels: 73 of the official boxes begin at x = 0, and x = 499 is the
most frequent right end. Images are at most 500 pixels wide.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ucn.arrays import Floats
from ucn.errors import UserError
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.sources.base import PairReader, PairRef, Source
from ucn.preprocessing.sources.input_files import file_size, read_lines
from ucn.preprocessing.sources.keypoints.pairs import (
    Instance,
    KeypointConfig,
    KeypointReader,
    KeypointRow,
    category_seed,
    choose_pairs,
)
from ucn.preprocessing.sources.pairs_file import read_pairs_file


class CubConfig(KeypointConfig):
    """CUB-200-2011: pairs of birds of one species, matched by labelled parts."""

    source: Literal["cub"] = "cub"
    root: str
    """Folder CUB_200_2011 with images.txt, images/ and parts/."""

    def open_source(self) -> Source:
        return CubSource(self)


@dataclass(frozen=True)
class _Lists:
    """Contents of the dataset's list files.

    Attributes:
        birds: image number to bird.
        training: image number to whether the image is in the official training set.
        parts: names of the parts, in the official order.
    """

    birds: dict[int, Instance]
    training: dict[int, bool]
    parts: list[str]


class CubSource:
    """Pairs of birds of one species."""

    def __init__(self, config: CubConfig) -> None:
        self._config = config
        self._root = Path(config.root)

    @cached_property
    def _lists(self) -> _Lists:
        return _read_lists(self._root)

    def pairs(self) -> list[PairRef]:
        config, birds = self._config, self._lists.birds
        if config.pairs_file is not None:
            return self._listed_pairs(Path(config.pairs_file))
        if config.split not in ("train", "test"):
            raise UserError(f"--split {config.split}: CUB's official splits are train and test")
        species: dict[str, list[int]] = defaultdict(list)
        for number, bird in birds.items():
            if self._lists.training[number] == (config.split == "train"):
                species[bird.category].append(number)
        pairs = [
            PairRef(category, str(numbers[first]), str(numbers[second]))
            for category, numbers in sorted(species.items())
            for first, second in choose_pairs(
                [birds[number].image for number in numbers],
                config.pairs_per_category,
                category_seed(config.seed, category),
            )
        ]
        if not pairs:
            raise UserError(
                f"{self._root}: no species has two images in split {config.split}; "
                "choose another --split"
            )
        return pairs

    def key(self, pair: PairRef) -> str:
        return f"{pair.sequence.replace('.', '_')}-{pair.frame0}-{pair.frame1}"

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        return [self._input(pair.frame0), self._input(pair.frame1)]

    def reader(self, pairs: Sequence[PairRef]) -> PairReader:
        return KeypointReader(
            self._config,
            self._root,
            {
                pair: KeypointRow(self.key(pair), self._birds(pair), self._lists.parts)
                for pair in pairs
            },
        )

    def load(self, pair: PairRef) -> Sample:
        return self.reader([pair]).load(pair)

    def _birds(self, pair: PairRef) -> tuple[Instance, Instance]:
        return self._lists.birds[int(pair.frame0)], self._lists.birds[int(pair.frame1)]

    def _input(self, frame: str) -> list[Any]:
        bird = self._lists.birds[int(frame)]
        size = file_size(self._root / bird.image)
        return [bird.image, size, bird.box, sorted(bird.keypoints.items())]

    def _listed_pairs(self, path: Path) -> list[PairRef]:
        """Pairs listed in a file, by names or numbers of ``images.txt``."""
        birds = self._lists.birds
        numbers = {bird.image.removeprefix("images/"): number for number, bird in birds.items()}
        numbers |= {str(number): number for number in birds}
        pairs: dict[PairRef, None] = {}
        for names in read_pairs_file(path).values():
            for name in names:
                if name not in numbers:
                    raise UserError(f"{path}: {name} is not in images.txt; use its names")
            first, second = (numbers[name] for name in names)
            pairs[PairRef(birds[first].category, str(first), str(second))] = None
        return list(pairs)


def _read_lists(root: Path) -> _Lists:
    """Read the dataset's list files.

    Raises:
        UserError: a list is missing or malformed, or lacks an image.
    """
    images = _read_names(root / "images.txt")
    classes = _read_names(root / "classes.txt")
    parts = _read_names(root / "parts" / "parts.txt")
    labels = _by_image(root / "image_class_labels.txt", 2, images)
    training = _by_image(root / "train_test_split.txt", 2, images)
    boxes = _by_image(root / "bounding_boxes.txt", 5, images)
    visible: dict[int, dict[str, tuple[float, float]]] = defaultdict(dict)
    for number, part, x, y, shown in _read_table(root / "parts" / "part_locs.txt", 5).tolist():
        if shown:
            if part not in parts:
                raise UserError(
                    f"{root / 'parts' / 'part_locs.txt'}: part {part:g} is not in parts.txt; "
                    "extract the archive again"
                )
            visible[int(number)][parts[int(part)]] = (x, y)
    birds: dict[int, Instance] = {}
    for number, name in images.items():
        label = int(labels[number][0])
        if label not in classes:
            raise UserError(
                f"{root / 'image_class_labels.txt'}: class {label} is not in classes.txt; "
                "extract the archive again"
            )
        x, y, width, height = boxes[number].tolist()
        birds[number] = Instance(
            f"images/{name}", classes[label], (x, y, width, height), visible[number]
        )
    return _Lists(
        birds, {number: bool(row[0]) for number, row in training.items()}, list(parts.values())
    )


def _read_names(path: Path) -> dict[int, str]:
    """Read ``NUMBER NAME`` lines. Names may contain spaces.

    Raises:
        UserError: the file is missing, empty or malformed.
    """
    try:
        lines = [line.split(maxsplit=1) for line in read_lines(path) if line.strip()]
        names = {int(number): name.strip() for number, name in lines}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the folder CUB_200_2011 as --root") from None
    except (OSError, ValueError):
        names = {}
    if not names:
        raise UserError(f"{path}: not a list of NUMBER NAME lines; extract the archive again")
    return names


def _read_table(path: Path, columns: int) -> Floats:
    """Read rows of numbers: float64 [N, columns].

    Raises:
        UserError: the file is missing, empty, or malformed.
    """
    try:
        table: Floats = np.loadtxt(read_lines(path), ndmin=2)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the folder CUB_200_2011 as --root") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: not a table of numbers ({error}); extract the archive again"
        ) from None
    if table.shape[1:] != (columns,) or not len(table):
        raise UserError(f"{path}: its rows are not {columns} numbers; extract the archive again")
    return table


def _by_image(path: Path, columns: int, images: dict[int, str]) -> dict[int, Floats]:
    """Read a table whose first column is the image number: image number to the other columns.

    Raises:
        UserError: the file is missing, malformed, or lacks an image.
    """
    rows = {int(row[0]): row[1:] for row in _read_table(path, columns)}
    missing = images.keys() - rows.keys()
    if missing:
        raise UserError(
            f"{path}: has no row for image {min(missing)} of images.txt; extract the archive again"
        )
    return rows
