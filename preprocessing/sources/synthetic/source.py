"""Synthetic worlds: rendered in KITTI raw's layout, then read like KITTI raw."""

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from ucn.preprocessing.sources.base import Source
from ucn.preprocessing.sources.kitti.drive import Drive, find_drives
from ucn.preprocessing.sources.kitti.lidar import LidarConfig, open_lidar
from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.job import make_worlds

_KITTI_ASPECT = 375 / 1242


class SyntheticConfig(LidarConfig):
    """Synthetic worlds, rendered under --root in KITTI raw's layout and read like KITTI raw."""

    source: Literal["synthetic"] = "synthetic"
    worlds: int = Field(2, ge=1, le=1000)
    """Number of worlds, with one drive each."""
    frames: int = Field(40, ge=2, le=100_000)
    """Number of frames of each drive."""
    first_world: int = Field(1, ge=0, le=9000)
    """Seed and drive number of the first world; the next worlds have the next numbers."""
    textures: Literal["train", "heldout"] = "train"
    """Set of textures; the two sets are disjoint."""
    width: int = Field(1242, ge=64, le=4096)
    """Width of the images in pixels; the height follows KITTI's aspect ratio."""

    def prepare(self) -> None:
        make_worlds(Path(self.root), world_specs(self), self.workers)

    def open_source(self) -> Source:
        names = tuple(f"{spec.drive:04d}" for spec in world_specs(self))
        drives = find_drives(Path(self.root), names)
        return open_lidar(self, [partial(Drive, drive) for drive in drives])


def world_specs(config: SyntheticConfig) -> list[WorldSpec]:
    """The specs of the worlds. Speed and number of moving vehicles are random in each world."""
    specs = []
    for number in range(config.first_world, config.first_world + config.worlds):
        rng = np.random.default_rng(number)
        specs.append(
            WorldSpec(
                seed=number,
                drive=number,
                frames=config.frames,
                width=config.width,
                height=round(config.width * _KITTI_ASPECT),
                cameras=config.wanted_cameras,
                textures=config.textures,
                speed=round(float(rng.uniform(0.5, 1.2)), 2),
                movers=int(rng.integers(3, 8)),
                truth=False,
            )
        )
    return specs
