"""Options and source shared by the planar benchmarks."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from ucn.arrays import Array, Floats
from ucn.errors import UserError
from ucn.geometry.homographies import Size, apply_homography, in_front, jittered_grid, local_scale
from ucn.geometry.rigid import inside_image
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.sample import Candidates, PairGeometry, Sample
from ucn.preprocessing.sources.assemble import assemble_sample
from ucn.preprocessing.sources.base import PairReader, PairRef, Source
from ucn.preprocessing.sources.input_files import file_size, readable_names
from ucn.preprocessing.sources.planar.files import PlanarPair, read_image

# Image 1 of a scene, which is in all pairs of the scene, and one other image.
_CACHED_PHOTOS = 2


class PlanarConfig(PreprocessConfig, ABC):
    """Options shared by the planar benchmarks. All scenes are in one split."""

    split: str = Field("test", pattern=r"^[a-z0-9_]+$")
    """Name of the split: shards are called SPLIT-000000.tar."""
    min_matches: int = Field(1, ge=1)
    """Minimum number of matches of a pair; other pairs are skipped. 1 keeps the whole benchmark."""
    max_matches: int = Field(10_000, ge=0)
    """Maximum number of matches of a pair, a sample spread over the image; 0 keeps all."""
    spacing: float = Field(4.0, ge=1)
    """Spacing of the candidate matches in image 0, pixels."""

    @abstractmethod
    def list_pairs(self) -> list[PlanarPair]:
        """List the pairs of the benchmark in a fixed order. Their images exist.

        Raises:
            UserError: the benchmark is missing or incomplete.
        """

    def open_source(self) -> Source:
        return PlanarSource(self)


@dataclass(frozen=True)
class PlanarReader:
    """Makes the samples of some pairs. Picklable until the first pair is loaded.

    Attributes:
        config: the options.
        found: files and homography of each pair.
        keys: key of each pair's sample.
    """

    config: PlanarConfig
    found: Mapping[PairRef, PlanarPair]
    keys: Mapping[PairRef, str]

    def key(self, pair: PairRef) -> str:
        return self.keys[pair]

    def load(self, pair: PairRef) -> Sample:
        config, found = self.config, self.found[pair]
        images = self._photo(found.path0), self._photo(found.path1)
        size0, size1 = ((image.shape[1], image.shape[0]) for image in images)
        # All pairs of a scene have the same candidate points in image 0.
        name = hashlib.sha256(pair.sequence.encode()).digest()[:8]
        rng = np.random.default_rng([config.seed, *name])
        candidates = planar_matches(found.H_1_0, jittered_grid(size0, config.spacing, rng), size1)
        if not len(candidates.matches_N4):
            raise UserError(
                f"{found.path1}: shows nothing of {found.path0.name} by their homography; "
                "restore the image and the homography"
            )
        return assemble_sample(
            config,
            self.key(pair),
            pair,
            images,
            candidates,
            PairGeometry("homography", more={"H_1_0": found.H_1_0.tolist()}),
        )

    @cached_property
    def _photo(self) -> Callable[[Path], Array]:
        return lru_cache(_CACHED_PHOTOS)(read_image)


class PlanarSource:
    """Pairs of photographs whose matches are points mapped by the true homography.

    A missing or damaged file is an error and never skips a pair, because results on a part of a
    benchmark are not comparable.
    """

    def __init__(self, config: PlanarConfig) -> None:
        self._config = config

    def pairs(self) -> list[PairRef]:
        return list(self._found)

    def key(self, pair: PairRef) -> str:
        return f"{self._scene_keys[pair.sequence]}-{pair.frame0}-{pair.frame1}"

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        found = self._found[pair]
        return [
            found.H_1_0.tolist(),
            *([path.name, file_size(path)] for path in (found.path0, found.path1)),
        ]

    def reader(self, pairs: Sequence[PairRef]) -> PairReader:
        return PlanarReader(
            self._config,
            {pair: self._found[pair] for pair in pairs},
            {pair: self.key(pair) for pair in pairs},
        )

    def load(self, pair: PairRef) -> Sample:
        return self.reader([pair]).load(pair)

    @cached_property
    def _found(self) -> dict[PairRef, PlanarPair]:
        return {
            PairRef(one.sequence, one.path0.stem, one.path1.stem): one
            for one in self._config.list_pairs()
        }

    @cached_property
    def _scene_keys(self) -> dict[str, str]:
        return readable_names(sorted({pair.sequence for pair in self._found}))


def planar_matches(H_1_0: Floats, points0_N2: Floats, size1: Size) -> Candidates:
    """Map points of image 0 to image 1 by the true homography.

    Args:
        H_1_0: pixels of image 0 to pixels of image 1, with either sign.
        points0_N2: points inside image 0, pixels.
        size1: (width, height) of image 1.

    Returns:
        The matches in front of the horizon and inside image 1. Their attribute ``scale`` is the
        local change of scale from image 0 to image 1.
    """
    points1_N2 = apply_homography(H_1_0, points0_N2)
    front_N = in_front(H_1_0, points0_N2)
    kept_N = front_N & inside_image(points1_N2, size1)
    return Candidates(
        np.hstack([points0_N2, points1_N2])[kept_N],
        {"scale": local_scale(H_1_0, points0_N2[kept_N])},
        {
            "beyond the horizon": int((~front_N).sum()),
            "outside image 1": int((front_N & ~kept_N).sum()),
        },
    )
