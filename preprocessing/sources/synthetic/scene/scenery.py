"""Objects beside the road: buildings, yards, trees, lamps and signs, each in its local frame."""

import numpy as np

from ucn.preprocessing.sources.synthetic.materials.facades import STOREY_METRES, paint_facade
from ucn.preprocessing.sources.synthetic.materials.stock import MaterialLibrary, Stock
from ucn.preprocessing.sources.synthetic.materials.textures import Palette
from ucn.preprocessing.sources.synthetic.scene.surfaces import Surfaces, box, join, prism, quad


def building(
    rng: np.random.Generator, palette: Palette, store: MaterialLibrary, stock: Stock, width: float
) -> Surfaces:
    """House with a front, plain sides, a pitched roof, and optional balconies, sign and awning."""
    storeys = int(rng.integers(2, 6))
    height = storeys * STOREY_METRES + rng.uniform(0, 0.8)
    depth = float(rng.uniform(8, 12))
    wall = int(rng.choice(stock.walls))
    front = store.add(paint_facade(rng, palette, width, storeys), 0.38)
    grain = rng.random(2) * 50
    detail = float(grain[0]), float(grain[1])
    sides = (float(rng.random()), float(rng.random()), depth / 4, height / 4)
    flanks = [
        (wall, sides) if rng.random() < 0.5 else (front, (0.0, 0.0, depth / width, 1.0))
        for _ in range(2)
    ]
    parts = [
        quad((0, 0, 0), (width, 0, 0), (0, 0, height), front, detail=detail),
        quad(
            (width, 0, 0),
            (0, depth, 0),
            (0, 0, height),
            flanks[0][0],
            uv=flanks[0][1],
            detail=detail,
        ),
        quad(
            (0, depth, 0),
            (0, -depth, 0),
            (0, 0, height),
            flanks[1][0],
            uv=flanks[1][1],
            detail=detail,
        ),
        quad((width, depth, 0), (-width, 0, 0), (0, 0, height), wall, detail=detail),
    ]
    roof = int(rng.choice(stock.concrete + stock.walls))
    rise = float(rng.uniform(1.5, 3.5))
    tiling = (0.0, 0.0, width / 4, 1.5)
    parts += [
        quad((0, 0, height), (width, 0, 0), (0, depth / 2, rise), roof, uv=tiling, detail=detail),
        quad((width, depth, height), (-width, 0, 0), (0, -depth / 2, rise), roof, uv=tiling),
        quad((width, 0, height), (0, depth, 0), (0, 0, rise), wall, uv=sides, mask=stock.gable),
        quad((0, depth, height), (0, -depth, 0), (0, 0, rise), wall, uv=sides, mask=stock.gable),
    ]
    for level in range(1, storeys):
        if rng.random() < 0.35:
            size = float(rng.uniform(1.5, 3.5)), float(rng.uniform(0.5, 1.3)), 1.0
            x = float(rng.uniform(size[0] / 2, width - size[0] / 2))
            base = (x, -size[1] / 2, level * STOREY_METRES + 0.1)
            parts.append(box(size, base, int(rng.choice(stock.concrete + stock.walls)), rng))
    if rng.random() < 0.45:
        x = float(rng.uniform(1, width - 1))
        z = float(rng.uniform(2.4, 3.2))
        panel = int(rng.choice(stock.panels))
        parts.append(quad((x, -1.1, z), (0, 1.1, 0), (0, 0, 0.8), panel, two_sided=True))
    if rng.random() < 0.35:
        parts.append(
            quad(
                (0.3, -1.4, 2.55),
                (width - 0.6, 0, 0),
                (0, 1.4, 0.5),
                int(rng.choice(stock.panels)),
                uv=(0, 0, width / 3, 1),
                two_sided=True,
            )
        )
    return join(parts)


def yard(rng: np.random.Generator, stock: Stock, width: float) -> Surfaces:
    """Gap between houses: a wall, hedge or railing in front of trees."""
    kind = int(rng.integers(3))
    parts = []
    if kind == 0:
        size = (width, 0.3, float(rng.uniform(0.9, 2.4)))
        parts.append(box(size, (width / 2, 0.2, 0), int(rng.choice(stock.walls)), rng))
    elif kind == 1:
        parts.append(_hedge(rng, stock, width, float(rng.uniform(0.9, 2.0))))
    else:
        parts.append(
            quad(
                (0, 0, 0),
                (width, 0, 0),
                (0, 0, 1.3),
                int(rng.choice(stock.concrete)),
                uv=(0, 0, width / 2, 0.6),
                mask=int(rng.choice(stock.fences)),
                two_sided=True,
            )
        )
    parts += [
        tree(rng, stock, (float(x), float(rng.uniform(2, 6)), 0.0), 14)
        for x in np.arange(2, width - 1, rng.uniform(3, 5))
    ]
    wall = int(rng.choice(stock.walls))
    parts.append(quad((0, 11, 0), (width, 0, 0), (0, 0, 5), wall, uv=(0, 0, width / 4, 1.2)))
    return join(parts)


def _hedge(rng: np.random.Generator, stock: Stock, width: float, height: float) -> Surfaces:
    leaf = int(rng.choice(stock.leaves))
    parts = [box((width, 0.8, height), (width / 2, 0.6, 0), leaf, rng, texel_metres=2.0)]
    parts += [
        quad(
            (float(x), float(rng.uniform(0.1, 0.3)), height - 0.5),
            (1.2, rng.normal(0, 0.1), 0),
            (0, rng.normal(0, 0.1), 0.8),
            leaf,
            uv=(*rng.random(2), 0.5, 0.4),
            mask=int(rng.choice(stock.leaf_masks)),
            two_sided=True,
        )
        for x in np.arange(0, width - 0.6, 0.9)
    ]
    return join(parts)


def tree(
    rng: np.random.Generator, stock: Stock, base: tuple[float, float, float], clumps: int
) -> Surfaces:
    """Trunk, and a crown of leaf clumps at random angles."""
    x, y, z = base
    trunk = float(rng.uniform(1.9, 3.0))
    radius = float(rng.uniform(1.2, 2.1))
    rise = radius * rng.uniform(0.9, 1.4)
    leaf = int(rng.choice(stock.leaves))
    parts = [
        prism(
            float(rng.uniform(0.1, 0.22)),
            base,
            trunk + rise * 0.6,
            6,
            int(rng.choice(stock.bark)),
            rng,
        )
    ]
    for _ in range(clumps):
        direction = rng.normal(0, 1, 3)
        direction *= rng.uniform(0.35, 0.9) / np.linalg.norm(direction)
        centre = np.array([x, y, z + trunk + rise]) + direction * (radius, radius, rise)
        yaw, lean = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.4)
        size = radius * rng.uniform(0.8, 1.25)
        edge_u = size * np.array([np.cos(yaw), np.sin(yaw), 0])
        edge_v = size * np.array(
            [-np.sin(yaw) * np.sin(lean), np.cos(yaw) * np.sin(lean), np.cos(lean)]
        )
        start = rng.random(2)
        parts.append(
            quad(
                centre - (edge_u + edge_v) / 2,
                edge_u,
                edge_v,
                leaf,
                uv=(start[0], start[1], size / 4, size / 4),
                detail=(start[0] * 30, start[1] * 30),
                mask=int(rng.choice(stock.leaf_masks)),
                two_sided=True,
            )
        )
    return join(parts)


def lamp(rng: np.random.Generator, material: int, side: int) -> Surfaces:
    height = float(rng.uniform(5.5, 8))
    reach = float(rng.uniform(0.8, 1.8))
    return join(
        [
            prism(float(rng.uniform(0.06, 0.11)), (0, 0, 0), height, 6, material, rng),
            box((0.12, reach, 0.1), (0, -side * reach / 2, height), material, rng),
            box((0.25, 0.6, 0.12), (0, -side * reach, height - 0.02), material, rng),
        ]
    )


def sign(rng: np.random.Generator, pole: int, panel: int) -> Surfaces:
    """Traffic sign on a post, facing the traffic."""
    width, height = float(rng.uniform(0.5, 1.1)), float(rng.uniform(0.5, 0.9))
    foot = float(rng.uniform(1.5, 2.4))
    return join(
        [
            prism(0.04, (0, 0, 0), foot + height, 5, pole, rng),
            quad((-0.06, width / 2, foot), (0, -width, 0), (0, 0, height), panel, two_sided=True),
        ]
    )
