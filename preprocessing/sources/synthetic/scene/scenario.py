"""Road, sensor poses and vehicle poses at each frame, without scenery."""

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
    """Road, sensors and vehicles of a drive.

    All poses are in the map frame, that of the road. The world frame has the same axes (east,
    north, up). Its origin is ``origin_3``, the first IMU position, as for readers of oxts.
    """

    spec: WorldSpec
    rig: Rig
    road: Road
    attitudes: list[Attitude]
    parked: list[Vehicle]
    movers: list[Vehicle]

    @property
    def origin_3(self) -> F64:
        """Position of the IMU at the first frame, in the map frame."""
        return self.attitudes[0].position_3

    def T_map_velo(self, frame: int) -> F64:
        """Velodyne to map [4, 4] at ``frame``."""
        transform: F64 = self.attitudes[frame].transform @ np.linalg.inv(self.rig.T_velo_imu)
        return transform

    def T_map_cam(self, frame: int, camera: int) -> F64:
        """Rectified camera to map [4, 4] at ``frame``."""
        inverse = np.linalg.inv(self.rig.T_cam_velo(camera))
        transform: F64 = self.T_map_velo(frame) @ inverse
        return transform

    def in_world(self, T_map_x: F64) -> F64:
        """Convert a pose from the map frame to the world frame."""
        shifted = T_map_x.copy()
        shifted[..., :3, 3] -= self.origin_3
        return shifted


def plan_scenario(spec: WorldSpec, palette: Palette, store: MaterialLibrary) -> Scenario:
    """Plan road, motion and vehicles of ``spec``, and add the vehicles' textures to ``store``."""
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
    """Make the palette of ``spec``, and a store with a placeholder for the ground's material."""
    store = MaterialLibrary()
    store.add(np.full((8, 8, 3), 0.4, np.float32), 0.2)
    return make_palette(stream(spec, 5), spec.textures), store


def stream(spec: WorldSpec, part: int) -> np.random.Generator:
    """Random number generator of one part of the world, independent of the other parts."""
    return np.random.default_rng([spec.seed, part])
