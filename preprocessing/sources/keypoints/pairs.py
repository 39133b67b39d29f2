"""Options, pair selection and samples shared by the keypoint sources."""

import hashlib
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from pydantic import Field

from ucn.arrays import Array
from ucn.errors import SkippedPair
from ucn.geometry.rigid import inside_image
from ucn.images.read import read_photo
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.sample import Candidates, PairGeometry, Sample
from ucn.preprocessing.sources.assemble import assemble_sample
from ucn.preprocessing.sources.base import PairRef

# A photo of 500 x 500 pixels takes about 0.7 MB.
_CACHED_PHOTOS = 32


class KeypointConfig(PreprocessConfig, ABC):
    """Options shared by the keypoint sources."""

    min_matches: int = Field(3, ge=1)
    """Minimum number of matches of a pair; other pairs are skipped."""
    pairs_per_category: int = Field(25, ge=1)
    """Maximum number of pairs of a category, chosen at random by the seed."""
    pairs_file: str | None = None
    """Text file with two names per line, one line per pair; replaces the random choice."""


@dataclass(frozen=True)
class Instance:
    """One labelled object.

    Attributes:
        image: path of the image, relative to the root.
        category: category of the object.
        box: x, y, width and height, pixels: from (x, y) to (x + width, y + height).
        keypoints: names of the visible keypoints to (x, y), pixels.
    """

    image: str
    category: str
    box: tuple[float, float, float, float]
    keypoints: Mapping[str, tuple[float, float]]


def choose_pairs(images: Sequence[str], count: int, seed: Sequence[int]) -> list[tuple[int, int]]:
    """Choose random pairs of objects of one category. The two objects are in different images.

    Args:
        images: the image of each object.
        count: maximum number of pairs.
        seed: seed of the choice.

    Returns:
        Pairs of indices i < j, ascending, without duplicates.
    """
    total = len(images) * (len(images) - 1) // 2
    # Pairs within one image are rare. Drawing four times as many pairs leaves enough others.
    drawn = np.random.default_rng(seed).choice(total, min(total, 4 * count), replace=False)
    second = ((1 + np.sqrt(1 + 8 * drawn)) / 2).astype(int)
    first = drawn - second * (second - 1) // 2
    apart = [(int(i), int(j)) for i, j in zip(first, second, strict=True) if images[i] != images[j]]
    return sorted(apart[:count])


def category_seed(seed: int, category: str) -> list[int]:
    """Seed of a category's random choice."""
    return [seed, *hashlib.sha256(category.encode()).digest()[:8]]


@dataclass(frozen=True)
class KeypointRow:
    """What a pair is made of, besides its images.

    Attributes:
        key: key of the sample.
        instances: the object in each image, or why there is none.
        names: names of the keypoints. The attribute ``keypoint`` is an index into them.
    """

    key: str
    instances: tuple[Instance, Instance] | SkippedPair
    names: Sequence[str]


@dataclass(frozen=True)
class KeypointReader:
    """Makes the samples of some pairs. Picklable until the first pair is loaded.

    Attributes:
        config: the options.
        root: folder of the images.
        rows: the pairs.
    """

    config: KeypointConfig
    root: Path
    rows: Mapping[PairRef, KeypointRow]

    def key(self, pair: PairRef) -> str:
        return self.rows[pair].key

    def load(self, pair: PairRef) -> Sample:
        row = self.rows[pair]
        if isinstance(row.instances, SkippedPair):
            raise row.instances
        images = self._photo(row.instances[0].image), self._photo(row.instances[1].image)
        return keypoint_sample(self.config, row.key, pair, images, row.instances, row.names)

    @cached_property
    def _photo(self) -> Callable[[str], Array]:
        return lru_cache(_CACHED_PHOTOS)(lambda name: read_photo(self.root / name, self.root))


def keypoint_sample(
    config: KeypointConfig,
    key: str,
    pair: PairRef,
    images: tuple[Array, Array],
    instances: tuple[Instance, Instance],
    names: Sequence[str],
) -> Sample:
    """Match the keypoints that are visible in both objects.

    Args:
        config: configuration of the source.
        key: key of the sample.
        pair: the image pair.
        images: uint8, grey or RGB.
        instances: the object in each image.
        names: names of the keypoints. The attribute ``keypoint`` is an index into them.

    Raises:
        SkippedPair: too few keypoints are visible in both objects, or a box is empty.
    """
    for instance in instances:
        if not (np.isfinite(instance.box).all() and min(instance.box[2:]) > 0):
            raise SkippedPair("damaged annotation", f"{instance.image}: box {instance.box}")
    points0, points1 = (instance.keypoints for instance in instances)
    shared = [index for index, name in enumerate(names) if name in points0 and name in points1]
    matches_N4 = np.array(
        [[*points0[names[index]], *points1[names[index]]] for index in shared], np.float64
    ).reshape(-1, 4)
    inside_N = np.isfinite(matches_N4).all(1)
    for image, columns in zip(images, (slice(0, 2), slice(2, 4)), strict=True):
        inside_N &= inside_image(matches_N4[:, columns], (image.shape[1], image.shape[0]))
    return assemble_sample(
        config,
        key,
        pair,
        images,
        Candidates(
            matches_N4[inside_N],
            {"keypoint": np.array(shared, np.int32)[inside_N]},
            {
                "visible in one image only": len(set(points0) ^ set(points1)),
                "outside its image": int((~inside_N).sum()),
            },
        ),
        PairGeometry(
            "semantic",
            more={
                "category": instances[0].category,
                "image0": instances[0].image,
                "image1": instances[1].image,
                "box0": list(instances[0].box),
                "box1": list(instances[1].box),
                "keypoint_names": list(names),
            },
        ),
    )
