"""Materials and masks of a world."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ucn.preprocessing.sources.synthetic.materials.palette import (
    Material,
    bark_tile,
    blob_mask,
    concrete_tile,
    fence_mask,
    gable_mask,
    leaf_tile,
    panel_tile,
    wall_tile,
)
from ucn.preprocessing.sources.synthetic.materials.textures import F32, TILE, Palette, mip_atlas


@dataclass
class MaterialLibrary:
    """List of the materials and masks of a world, filled while the world is built."""

    materials: list[Material] = field(default_factory=list)
    masks: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, tile: F32, reflectance: float, *, gloss: float = 0.0, grain: float = 1.0) -> int:
        """Add a texture whose row 0 is the top, and return the number of its material."""
        atlas = mip_atlas(tile[::-1])
        self.materials.append(Material(atlas, reflectance, gloss, grain))
        return len(self.materials) - 1

    def cut_out(self, mask: NDArray[np.bool_]) -> int:
        """Add a mask whose row 0 is the top, and return its number."""
        self.masks.append(np.ascontiguousarray(mask[::-1]))
        return len(self.masks) - 1


@dataclass(frozen=True)
class Stock:
    """Numbers of the materials and masks that several objects share."""

    walls: list[int]
    leaves: list[int]
    bark: list[int]
    concrete: list[int]
    panels: list[int]
    leaf_masks: list[int]
    fences: list[int]
    gable: int


def make_stock(rng: np.random.Generator, palette: Palette, store: MaterialLibrary) -> Stock:
    """Make the shared materials and masks."""
    return Stock(
        walls=[store.add(wall_tile(rng, palette, TILE), 0.35) for _ in range(5)],
        leaves=[store.add(leaf_tile(rng, palette, TILE), 0.3) for _ in range(3)],
        bark=[store.add(bark_tile(rng, palette, TILE), 0.25) for _ in range(2)],
        concrete=[store.add(concrete_tile(rng, palette, TILE), 0.4) for _ in range(3)],
        panels=[store.add(panel_tile(rng, palette, 192, 256), 0.5) for _ in range(8)],
        leaf_masks=[store.cut_out(blob_mask(rng, 96, 0.62)) for _ in range(6)],
        fences=[store.cut_out(fence_mask(rng, 128)) for _ in range(2)],
        gable=store.cut_out(gable_mask(128)),
    )
