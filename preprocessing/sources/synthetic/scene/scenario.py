"""Where everything is at each frame: the road, the sensors and the vehicles, before any scenery."""

from dataclasses import dataclass

import numpy as np

from ucn.preprocessing.sources.synthetic.calibration import Rig, make_rig
from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.materials.stock import MaterialLibrary
from ucn.preprocessing.sources.synthetic.materials.textures import F64, Palette, make_palette
from ucn.preprocessing.sources.synthetic.scene.traffic import Vehicle, make_models, park, send_out
from ucn.preprocessing.sources.synthetic.scene.trajectory import (
    Attitude,
    Road,
    drive,
    make_road,
    travelled,
)


@dataclass(frozen=True)
class Scenario:
    """All that moves, and the sensors.

    The map frame is the road's; ``origin_3`` is the first position of the IMU in it, where
    readers of oxts put the origin of their world (same axes: east, north, up).
    """

    spec: WorldSpec
    rig: Rig
    road: Road
    attitudes: list[Attitude]
    parked: list[Vehicle]
    movers: list[Vehicle]

    @property
    def origin_3(self) -> F64:
        """Map position of the IMU at the first frame."""
        return self.attitudes[0].position_3

    def T_map_velo(self, frame: int) -> F64:
        """Scanner to map [4, 4] at ``frame``."""
        transform: F64 = self.attitudes[frame].transform @ np.linalg.inv(self.rig.T_velo_imu)
        return transform

    def T_map_cam(self, frame: int, camera: int) -> F64:
        """Rectified camera to map [4, 4] at ``frame``."""
        inverse = np.linalg.inv(self.rig.T_cam_velo(camera))
        transform: F64 = self.T_map_velo(frame) @ inverse
        return transform

    def in_world(self, T_map_x: F64) -> F64:
        """The same pose with the origin where readers of oxts put it."""
        shifted = T_map_x.copy()
        shifted[..., :3, 3] -= self.origin_3
        return shifted


def plan_scenario(spec: WorldSpec, palette: Palette, store: MaterialLibrary) -> Scenario:
    """Road, motion and vehicles of ``spec``; the vehicles' pictures go into ``store``."""
    motion, bends, paint, traffic, springs = (stream(spec, part) for part in range(5))
    distance_F = travelled(spec, motion)
    road = make_road(spec, float(distance_F[-1]), bends)
    models = make_models(paint, palette, store)
    return Scenario(
        spec=spec,
        rig=make_rig(spec),
        road=road,
        attitudes=drive(road, distance_F, springs),
        parked=park(traffic, spec, road, models),
        movers=send_out(traffic, spec, road, distance_F, models),
    )


def make_store(spec: WorldSpec) -> tuple[Palette, MaterialLibrary]:
    """Palette of ``spec`` and a store whose first material stands for the ground."""
    store = MaterialLibrary()
    store.add(np.full((8, 8, 3), 0.4, np.float32), 0.2)
    return make_palette(stream(spec, 5), spec.textures), store


def stream(spec: WorldSpec, part: int) -> np.random.Generator:
    """Random numbers of one part of the world, independent of the other parts."""
    return np.random.default_rng([spec.seed, part])
