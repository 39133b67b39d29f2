"""A complete world, built from its spec."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.materials.palette import Material
from ucn.preprocessing.sources.synthetic.materials.stock import make_stock
from ucn.preprocessing.sources.synthetic.materials.textures import (
    U8,
    MipAtlas,
    Palette,
    mip_atlas,
    spectral_noise,
    structure,
)
from ucn.preprocessing.sources.synthetic.scene.ground import Ground, make_ground
from ucn.preprocessing.sources.synthetic.scene.layout import line_road
from ucn.preprocessing.sources.synthetic.scene.lighting import (
    Light,
    ShadowMap,
    cast_shadows,
    make_light,
    paint_sky,
)
from ucn.preprocessing.sources.synthetic.scene.scenario import (
    Scenario,
    make_store,
    plan_scenario,
    stream,
)
from ucn.preprocessing.sources.synthetic.scene.surfaces import Surfaces, join, quad

GROUND_MATERIAL = 0
GROUND_REACH = 1000.0


@dataclass(frozen=True)
class World(Scenario):
    """A world ready for rendering. Surface 0 is the ground."""

    light: Light
    sky: U8
    ground: Ground
    shadows: ShadowMap
    grain: MipAtlas
    materials: list[Material]
    masks: list[NDArray[np.bool_]]
    standing: Surfaces

    def surfaces(self, frame: int) -> Surfaces:
        """All surfaces at ``frame``, in the map frame."""
        moving = [vehicle.body.moved(vehicle.poses_F44[frame]) for vehicle in self.movers]
        return join([self.standing, *moving])


def build_world(spec: WorldSpec) -> World:
    """Build the world of ``spec``, which takes one or two seconds."""
    palette, store = make_store(spec)
    scenario = plan_scenario(spec, palette, store)
    road = scenario.road
    stock = make_stock(stream(spec, 10), palette, store)
    roadside = line_road(stream(spec, 11), road, palette, store, stock)
    parked = [car.body.moved(car.poses_F44[0]) for car in scenario.parked]
    standing = join([*roadside, *parked])
    sky_rng, ground_rng = stream(spec, 12), stream(spec, 13)
    light = make_light(sky_rng)
    corner = road.position_N2.min(axis=0) - 30
    extent = road.position_N2.max(axis=0) + 30 - corner
    plane = quad(
        (-GROUND_REACH, -GROUND_REACH, 0),
        (2 * GROUND_REACH, 0, 0),
        (0, 2 * GROUND_REACH, 0),
        GROUND_MATERIAL,
    )
    return World(
        **vars(scenario),
        light=light,
        sky=paint_sky(sky_rng, light),
        ground=make_ground(ground_rng, palette, road),
        shadows=cast_shadows(standing, store.masks, light, corner, extent),
        grain=_grain(ground_rng, palette),
        materials=store.materials,
        masks=store.masks,
        standing=join([plane, standing]),
    )


def _grain(rng: np.random.Generator, palette: Palette) -> MipAtlas:
    """Grey texture of fine grain, mean 0.5, shared by all surfaces that are not smooth."""
    size = 1024
    pattern = structure(palette.photo(rng, size))
    noise = spectral_noise(rng, size, size, 0.85)
    return mip_atlas((0.5 + 0.11 * (0.5 * pattern + noise)).astype(np.float32))
