"""Shared by the planar benchmarks: options, and pairs with points mapped by H."""

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from pydantic import Field

from ucn.arrays import Floats
from ucn.errors import UserError
from ucn.geometry.homographies import Size, apply_homography, in_front, jittered_grid, local_scale
from ucn.geometry.rigid import inside_image
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.sample import Candidates, PairGeometry, Sample
from ucn.preprocessing.sources.assemble import assemble_sample
from ucn.preprocessing.sources.base import PairRef, Source
from ucn.preprocessing.sources.planar.files import PlanarPair, read_image
from ucn.preprocessing.sources.sfm.pairs import file_bytes, readable_names

# Image 1 of a scene, which all its pairs have, and the other one.
_CACHED_PHOTOS = 2


class PlanarConfig(PreprocessConfig, ABC):
    """Options of benchmarks of planar scenes. They have no training set: all of it is one split."""

    split: str = Field("test", pattern=r"^[a-z0-9_]+$")
    """Name of the split: shards are called SPLIT-000000.tar."""
    min_matches: int = Field(1, ge=1)
    """Pairs with fewer correspondences are skipped: with more than 1 it is another benchmark."""
    max_matches: int = Field(10_000, ge=0)
    """Most correspondences of a pair, a seeded sample spread over the image; 0 keeps all."""
    spacing: float = Field(4.0, ge=1)
    """One match is tried in each square of this many pixels of image 0."""

    @abstractmethod
    def list_pairs(self) -> list[PlanarPair]:
        """List the benchmark's pairs, always in one order, with images that are there.

        Raises:
            UserError: the benchmark is not there or not whole.
        """

    def open_source(self) -> Source:
        return PlanarSource(self)


class PlanarSource:
    """Pairs of photographs and points of the first, which the true homography takes over.

    The benchmarks are whole or not those benchmarks: whatever is missing or damaged is a fault of
    all, and skips no pair.
    """

    def __init__(self, config: PlanarConfig) -> None:
        self._config = config
        self._photo = lru_cache(_CACHED_PHOTOS)(read_image)

    def pairs(self) -> list[PairRef]:
        return list(self._found)

    def key(self, pair: PairRef) -> str:
        return f"{self._scene_keys[pair.sequence]}-{pair.frame0}-{pair.frame1}"

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        found = self._found[pair]
        return [
            found.H_1_0.tolist(),
            *([path.name, file_bytes(path)] for path in (found.path0, found.path1)),
        ]

    def load(self, pair: PairRef) -> Sample:
        config, found = self._config, self._found[pair]
        images = self._photo(found.path0), self._photo(found.path1)
        size0, size1 = ((image.shape[1], image.shape[0]) for image in images)
        # All pairs of a scene are asked for the same points of their image 0.
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
    def _found(self) -> dict[PairRef, PlanarPair]:
        return {
            PairRef(one.sequence, one.path0.stem, one.path1.stem): one
            for one in self._config.list_pairs()
        }

    @cached_property
    def _scene_keys(self) -> dict[str, str]:
        return readable_names(sorted({pair.sequence for pair in self._found}))


def planar_matches(H_1_0: Floats, points0_N2: Floats, size1: Size) -> Candidates:
    """Take points of image 0 into image 1 by the true homography.

    Args:
        H_1_0: pixels of image 0 to pixels of image 1, of either sign.
        points0_N2: pixels inside image 0.
        size1: width and height of image 1.

    Returns:
        Those in front of the horizon that land inside image 1, and ``scale``, by what factor
        lengths grow there.
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
