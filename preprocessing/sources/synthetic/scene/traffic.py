"""Moving and parked vehicles."""

from dataclasses import dataclass

import numpy as np

from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.materials.stock import MaterialLibrary
from ucn.preprocessing.sources.synthetic.materials.textures import F64, Palette
from ucn.preprocessing.sources.synthetic.materials.vehicle_skins import (
    TONES,
    VehicleSkin,
    paint_vehicle,
)
from ucn.preprocessing.sources.synthetic.scene.surfaces import Surfaces, pose
from ucn.preprocessing.sources.synthetic.scene.trajectory import Road, random_wave
from ucn.preprocessing.sources.synthetic.scene.vehicles import (
    OBJECT_TYPES,
    VehicleMaterials,
    build_vehicle,
)

KINDS = ("hatchback", "saloon", "estate", "van", "truck")
ODDS = (0.3, 0.25, 0.22, 0.15, 0.08)
SKINS = 7


@dataclass(frozen=True)
class Vehicle:
    """A vehicle: body in its local frame, and poses (local to map) at each frame.

    ``instance`` is 0 for parked vehicles; moving vehicles are numbered from 1.
    """

    instance: int
    object_type: str
    size: tuple[float, float, float]
    body: Surfaces
    poses_F44: F64


@dataclass(frozen=True)
class VehicleModel:
    """A textured vehicle body that can be placed several times."""

    skin: VehicleSkin
    body: Surfaces


def make_models(
    rng: np.random.Generator, palette: Palette, store: MaterialLibrary
) -> list[VehicleModel]:
    """Make the vehicle models of a world, with kinds as frequent as in a town."""
    models = []
    tones = rng.permutation(len(TONES))
    for index in range(SKINS):
        kind = KINDS[index % 2] if index < 2 else str(rng.choice(KINDS, p=ODDS))
        skin = paint_vehicle(rng, palette, kind, int(tones[index]))
        parts = VehicleMaterials(
            side=store.add(skin.side, 0.3, gloss=0.12, grain=0.15),
            rear=store.add(skin.rear, 0.6, gloss=0.1, grain=0.15),
            front=store.add(skin.front, 0.6, gloss=0.1, grain=0.15),
            paint=store.add(skin.paint, 0.3, gloss=0.25, grain=0.15),
            glass=store.add(skin.glass, 0.05, gloss=0.45, grain=0.1),
            mask=store.cut_out(skin.side_mask),
        )
        models.append(VehicleModel(skin, build_vehicle(skin, parts)))
    return models


def park(
    rng: np.random.Generator, spec: WorldSpec, road: Road, models: list[VehicleModel]
) -> list[Vehicle]:
    """Place vehicles in the parking lanes. Trucks are too large for them."""
    vehicles = []
    small = [model for model in models if model.skin.kind != "truck"]
    for lateral, turned in ((-3.05, 0.0), (6.35, np.pi)):
        at = road.start + rng.uniform(0, 6)
        while at < road.end - 20:
            if rng.random() < spec.parked:
                model = small[rng.integers(len(small))]
                placed = _place(
                    road,
                    np.full(spec.frames, at),
                    np.full(spec.frames, lateral + rng.normal(0, 0.08)),
                    turned + float(rng.normal(0, 0.02)),
                )
                vehicles.append(_vehicle(0, model, placed))
            at += 5.7 + float(rng.uniform(0, 0.5))
    return vehicles


def send_out(
    rng: np.random.Generator,
    spec: WorldSpec,
    road: Road,
    travelled_F: F64,
    models: list[VehicleModel],
) -> list[Vehicle]:
    """Place moving vehicles: sometimes one ahead in the car's lane, the others oncoming."""
    frame = np.arange(spec.frames, dtype=np.float64)
    vehicles = []
    cruise = max(spec.speed, 0.5)
    leads = spec.movers >= 2 and bool(rng.random() < 0.75)
    if leads:
        gap = rng.uniform(11, 20) + random_wave(rng, 2.0, 25, 80)(frame)
        if spec.stop is not None:
            gap = gap + 0.7 * cruise * np.clip(frame - spec.stop[0], 0, None)
        s = np.minimum(travelled_F + np.maximum(gap, 8.5), road.end - 12)
        sway = random_wave(rng, 0.15, 20, 60)(frame)
        placed = _place(road, s, sway, 0.0)
        vehicles.append(_vehicle(1, models[rng.integers(len(models))], placed))
    oncoming = spec.movers - len(vehicles)
    pace = cruise * rng.uniform(0.7, 1.3)
    stretch = min(travelled_F[-1] + pace * spec.frames + 45, road.end - 25)
    spacing = max(stretch / max(oncoming, 1), 10.0)
    for index in range(oncoming):
        start = 14 + spacing * (index + rng.uniform(0.0, 0.35))
        s = start - pace * frame
        inside = np.clip(s, road.start + 6, road.end - 6)
        sway = 3.5 + random_wave(rng, 0.12, 20, 60)(frame)
        placed = _place(road, inside, sway, np.pi)
        model = models[rng.integers(len(models))]
        vehicles.append(_vehicle(len(vehicles) + 1, model, placed))
    return vehicles


def _place(road: Road, s_F: F64, lateral_F: F64, turned: float) -> F64:
    """Poses [F, 4, 4] on the road at arc lengths ``s_F``."""
    points = road.point(s_F, lateral_F)
    yaw = road.heading(s_F) + turned
    return np.stack([pose(points[k, 0], points[k, 1], 0.0, float(yaw[k])) for k in range(len(s_F))])


def _vehicle(instance: int, model: VehicleModel, poses_F44: F64) -> Vehicle:
    return Vehicle(
        instance,
        OBJECT_TYPES[model.skin.kind],
        model.skin.size,
        model.body.tagged(instance),
        poses_F44,
    )
