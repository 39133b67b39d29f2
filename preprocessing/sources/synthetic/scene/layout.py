"""Places objects along both sides of the road."""

import numpy as np

from ucn.preprocessing.sources.synthetic.materials.stock import MaterialLibrary, Stock
from ucn.preprocessing.sources.synthetic.materials.textures import F64, Palette
from ucn.preprocessing.sources.synthetic.scene.ground import ROAD_LEFT, ROAD_RIGHT
from ucn.preprocessing.sources.synthetic.scene.scenery import building, lamp, sign, tree, yard
from ucn.preprocessing.sources.synthetic.scene.surfaces import Surfaces, box, pose, prism
from ucn.preprocessing.sources.synthetic.scene.trajectory import Road


def line_road(
    rng: np.random.Generator, road: Road, palette: Palette, store: MaterialLibrary, stock: Stock
) -> list[Surfaces]:
    """Make buildings, yards and street furniture on both sides of the road."""
    parts: list[Surfaces] = []
    for side in (-1, 1):
        kerb = ROAD_LEFT if side > 0 else -ROAD_RIGHT
        at = road.start + rng.uniform(0, 8)
        setback = kerb + rng.uniform(2.8, 6.0)
        while at < road.end - 20:
            if rng.random() < 0.15:
                setback = kerb + rng.uniform(2.6, 9.0)
            width = float(rng.uniform(7, 17))
            frame = _frontage(road, at, at + width, side * (setback + rng.uniform(-0.4, 0.6)))
            if rng.random() < 0.72:
                parts.append(building(rng, palette, store, stock, width).moved(frame))
            else:
                parts.append(yard(rng, stock, width).moved(frame))
            at += width + (rng.uniform(1.5, 6) if rng.random() < 0.3 else 0.0)
        parts += _furniture(rng, road, store, stock, side, kerb)
    return parts


def _frontage(road: Road, s0: float, s1: float, lateral: float) -> F64:
    """Local frame of a plot, as seen from the road: x to the right, y away from the road."""
    ends = road.point(np.array([s0, s1]), lateral)
    left, right = (ends[0], ends[1]) if lateral > 0 else (ends[1], ends[0])
    along = right - left
    return pose(left[0], left[1], 0.0, float(np.arctan2(along[1], along[0])))


def _furniture(
    rng: np.random.Generator,
    road: Road,
    store: MaterialLibrary,
    stock: Stock,
    side: int,
    kerb: float,
) -> list[Surfaces]:
    """Trees, lamps, signs, bollards, bins and cabinets along the kerb."""
    parts = []
    at = road.start + rng.uniform(0, 10)
    while at < road.end - 15:
        lateral = side * (kerb + rng.uniform(0.5, 1.4))
        x, y = road.point(at, lateral)
        frame = pose(float(x), float(y), 0.0, float(road.heading(at)))
        kind = rng.random()
        concrete = int(rng.choice(stock.concrete))
        if kind < 0.3:
            parts.append(tree(rng, stock, (0, 0, 0), 20).moved(frame))
        elif kind < 0.5:
            parts.append(lamp(rng, concrete, side).moved(frame))
        elif kind < 0.75:
            parts.append(sign(rng, concrete, int(rng.choice(stock.panels))).moved(frame))
        elif kind < 0.88:
            size = (
                float(rng.uniform(0.5, 1.2)),
                float(rng.uniform(0.4, 0.7)),
                float(rng.uniform(0.8, 1.5)),
            )
            parts.append(
                box(
                    size,
                    (0, 0, 0),
                    int(rng.choice(stock.panels + stock.concrete)),
                    rng,
                    texel_metres=1.5,
                ).moved(frame)
            )
        else:
            parts += [
                prism(0.07, (1.6 * step, 0, 0), 0.95, 6, concrete, rng).moved(frame)
                for step in range(int(rng.integers(2, 5)))
            ]
        at += float(rng.uniform(3.5, 11))
    return parts
