"""PASCAL keypoints: objects of 20 categories in the photos of VOC 2011, labelled by Berkeley."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.sources.base import PairReader, PairRef, Source
from ucn.preprocessing.sources.input_files import file_digest, file_size
from ucn.preprocessing.sources.keypoints.pairs import (
    KeypointConfig,
    KeypointReader,
    KeypointRow,
    category_seed,
    choose_pairs,
)
from ucn.preprocessing.sources.keypoints.pascal_files import (
    find_objects,
    image_of,
    read_image_list,
    read_object,
    read_object_list,
)
from ucn.preprocessing.sources.pairs_file import read_pairs_file

_CACHED_OBJECTS = 64


class PascalConfig(KeypointConfig):
    """Berkeley's keypoints of PASCAL VOC 2011: pairs of objects of one category."""

    source: Literal["pascal"] = "pascal"
    root: str
    """Folder VOCdevkit/VOC2011 with JPEGImages and ImageSets."""
    annotations: str = "annotations"
    """Folder of Berkeley's CATEGORY/IMAGE_N.xml, absolute or relative to --root."""
    categories: tuple[str, ...] = ()
    """Categories such as aeroplane; default all."""
    objects: str | None = None
    """Text file of the objects to take, one CATEGORY/IMAGE_N.xml per line; replaces --split."""

    def open_source(self) -> Source:
        return PascalSource(self)


class PascalSource:
    """Pairs of objects of one category."""

    def __init__(self, config: PascalConfig) -> None:
        self._config = config
        self._root = Path(config.root)
        self._annotations = self._root / config.annotations
        self._object = lru_cache(_CACHED_OBJECTS)(lambda name: read_object(self._annotations, name))
        self._input = lru_cache(None)(self._digest)

    def pairs(self) -> list[PairRef]:
        config = self._config
        found = find_objects(self._annotations)
        unknown = sorted(set(config.categories) - found.keys())
        if unknown:
            raise UserError(
                f"--categories {unknown[0]}: not in {self._annotations}; "
                f"there are {', '.join(found)}"
            )
        if config.pairs_file is not None:
            return _listed_pairs(Path(config.pairs_file), found)
        pairs = [
            _pair(names[first], names[second])
            for category, names in self._of_split(found).items()
            if not config.categories or category in config.categories
            for first, second in choose_pairs(
                [image_of(name) for name in names],
                config.pairs_per_category,
                category_seed(config.seed, category),
            )
        ]
        if not pairs:
            raise UserError(
                f"{self._annotations}: no category has objects in two images of {config.split}; "
                "choose another --split, --categories or --objects"
            )
        return pairs

    def key(self, pair: PairRef) -> str:
        return "-".join(pair)

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        return [self._input(f"{pair.sequence}/{frame}") for frame in (pair.frame0, pair.frame1)]

    def reader(self, pairs: Sequence[PairRef]) -> PairReader:
        return KeypointReader(self._config, self._root, {pair: self._row(pair) for pair in pairs})

    def load(self, pair: PairRef) -> Sample:
        return self.reader([pair]).load(pair)

    def _row(self, pair: PairRef) -> KeypointRow:
        try:
            object0, object1 = (self._object(f"{pair.sequence}/{frame}") for frame in pair[1:])
        except SkippedPair as skipped:
            return KeypointRow(self.key(pair), skipped, ())
        names = sorted(object0.keypoints.keys() | object1.keypoints.keys())
        return KeypointRow(self.key(pair), (object0, object1), names)

    def _of_split(self, found: dict[str, list[str]]) -> dict[str, list[str]]:
        """Objects of the split, or of the file `objects`, by category."""
        if self._config.objects is None:
            images = read_image_list(self._root, self._config.split)
            chosen = {
                name for names in found.values() for name in names if image_of(name) in images
            }
        else:
            path = Path(self._config.objects)
            chosen = read_object_list(path)
            missing = sorted(chosen.difference(*found.values()))
            if missing:
                raise UserError(
                    f"{path}: {missing[0]} is not in {self._annotations}; write CATEGORY/IMAGE_N"
                )
        return {
            category: [name for name in names if name in chosen]
            for category, names in found.items()
        }

    def _digest(self, name: str) -> list[Any]:
        """Name of an object, digest of its annotation, and size of its image in bytes."""
        photo = self._root / "JPEGImages" / f"{image_of(name)}.jpg"
        digest = file_digest(self._annotations / f"{name}.xml") or ""
        return [name, digest, file_size(photo)]


def _pair(name0: str, name1: str) -> PairRef:
    category, _, frame0 = name0.partition("/")
    return PairRef(category, frame0, name1.partition("/")[2])


def _listed_pairs(path: Path, found: dict[str, list[str]]) -> list[PairRef]:
    """Pairs listed in a file.

    Raises:
        UserError: an object is unknown, or the objects of a pair are of different categories.
    """
    known = {name for names in found.values() for name in names}
    pairs: dict[PairRef, None] = {}
    for listed in read_pairs_file(path).values():
        first, second = (name.removesuffix(".xml") for name in listed)
        for name in (first, second):
            if name not in known:
                raise UserError(f"{path}: {name} is not annotated; write CATEGORY/IMAGE_N")
        if first.partition("/")[0] != second.partition("/")[0]:
            raise UserError(f"{path}: {first} and {second} are of two categories; pair one's own")
        pairs[_pair(first, second)] = None
    return list(pairs)
