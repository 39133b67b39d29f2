"""Texture of the flat ground along the road: asphalt, markings, kerbs, paving, verges."""

from dataclasses import dataclass

import cv2
import numpy as np

from ucn.preprocessing.sources.synthetic.materials.palette import colour
from ucn.preprocessing.sources.synthetic.materials.textures import (
    F32,
    F64,
    TILE,
    U8,
    MipAtlas,
    Palette,
    mip_atlas,
    structure,
    tint,
)
from ucn.preprocessing.sources.synthetic.scene.trajectory import STEP, Road

METRES_ALONG, METRES_ACROSS = 0.08, 0.025
"""Texel size, metres. Coarser along the road, because perspective foreshortens it."""
HALF_WIDTH = 16.0
LONGEST = 400.0
"""Length of road after which the texture repeats, metres."""
LANE = 1.75
ROAD_LEFT, ROAD_RIGHT = 7.4, -4.1
KERB = 0.16
GRID_METRES = 1.0


@dataclass(frozen=True)
class Ground:
    """Texture of the strip along the road, and a grid of road coordinates over the map.

    ``road_HW2`` has (arc length, lateral) at grid nodes ``corner_2 + GRID_METRES * (x, y)``.
    """

    atlas: MipAtlas
    start: float
    length: float
    corner_2: F64
    road_HW2: F32

    def along_road(self, points_N2: F32) -> F32:
        """Interpolated (arc length, metres to the left) [N, 2] of map points."""
        at = (points_N2 - self.corner_2.astype(np.float32)) * np.float32(1 / GRID_METRES)
        height, width = self.road_HW2.shape[:2]
        x = np.clip(at[:, 0], 0, width - 1.001)
        y = np.clip(at[:, 1], 0, height - 1.001)
        x0, y0 = x.astype(np.intp), y.astype(np.intp)
        wx, wy = (x - x0)[:, None], (y - y0)[:, None]
        flat = self.road_HW2.reshape(-1, 2)
        base = y0 * width + x0
        low = flat[base] * (1 - wx) + flat[base + 1] * wx
        high = flat[base + width] * (1 - wx) + flat[base + width + 1] * wx
        return np.asarray((low * (1 - wy) + high * wy).astype(np.float32))


def make_ground(rng: np.random.Generator, palette: Palette, road: Road) -> Ground:
    """Make the ground around a road."""
    length = min(road.end - road.start, LONGEST)
    rows = 2 * round(length / METRES_ALONG / 2)
    corner, road_grid = _road_grid(road)
    image = paint_strip(rng, palette, rows)
    return Ground(mip_atlas(image), road.start, rows * METRES_ALONG, corner, road_grid)


def paint_strip(rng: np.random.Generator, palette: Palette, rows: int) -> U8:
    """Paint a strip uint8 [rows, W, 3]: rows along the road, columns from right to left."""
    columns = round(2 * HALF_WIDTH / METRES_ACROSS)
    lateral = (np.arange(columns, dtype=np.float32) + 0.5) * METRES_ACROSS - HALF_WIDTH
    image = np.empty((rows, columns, 3), np.float32)
    bands = [
        (-HALF_WIDTH, ROAD_RIGHT - KERB, _pavement),
        (ROAD_RIGHT - KERB, ROAD_LEFT + KERB, _asphalt),
        (ROAD_LEFT + KERB, HALF_WIDTH, _pavement),
    ]
    for low, high, paint in bands:
        inside = np.flatnonzero((lateral >= low) & (lateral < high))
        image[:, inside[0] : inside[-1] + 1] = paint(rng, palette, rows, len(inside))
    for edge in (ROAD_RIGHT, ROAD_LEFT):
        _kerb(rng, image, edge)
    _markings(rng, palette, image)
    stains = palette.noise(rng, "cloudy", rows, columns)
    image *= np.clip(1 + 0.06 * stains, 0.6, 1.3)[..., None]
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _column(lateral: float) -> int:
    return round((lateral + HALF_WIDTH) / METRES_ACROSS)


def _spread(rng: np.random.Generator, tile: F32, rows: int, columns: int) -> F32:
    """Repeat a tile with alternate mirroring over [rows, columns], from a random start."""
    flipped = np.concatenate([tile, tile[:, ::-1]], axis=1)
    flipped = np.concatenate([flipped, flipped[::-1]], axis=0)
    shift = int(rng.integers(flipped.shape[0])), int(rng.integers(flipped.shape[1]))
    repeats = (-(-rows // flipped.shape[0]), -(-columns // flipped.shape[1]))
    rolled = np.roll(flipped, shift, axis=(0, 1))
    return np.tile(rolled, (*repeats, *([1] * (tile.ndim - 2))))[:rows, :columns]


def _asphalt(rng: np.random.Generator, palette: Palette, rows: int, columns: int) -> F32:
    """Worn asphalt with repairs, cracks, wheel tracks and manholes."""
    stones = structure(palette.photo(rng, TILE))
    grain = _spread(rng, 0.4 * stones + palette.noise(rng, "fine", TILE, TILE), rows, columns)
    image = tint(grain, colour(rng, 0.05, 0.33, 0.46), 0.07)
    for _ in range(rows // 90):
        _repair(rng, image)
    for _ in range(rows // 60):
        _crack(rng, image)
    for _ in range(rows // 260):
        centre = int(rng.integers(columns)), int(rng.integers(rows))
        axes = (int(0.33 / METRES_ACROSS), max(2, int(0.33 / METRES_ALONG)))
        cv2.ellipse(image, centre, axes, 0, 0, 360, (0.2, 0.2, 0.2), -1)
        cv2.ellipse(image, centre, axes, 0, 0, 360, (0.5, 0.5, 0.48), 2)
    across = np.arange(columns) * METRES_ACROSS + ROAD_RIGHT - KERB
    tracks = sum(np.exp(-(((across - at) / 0.3) ** 2)) for at in (-0.8, 0.8, 2.7, 4.3))
    image *= (1 - 0.1 * np.asarray(tracks))[None, :, None].astype(np.float32)
    return image


def _repair(rng: np.random.Generator, image: F32) -> None:
    height, width = int(rng.integers(8, 160)), int(rng.integers(20, 140))
    y, x = int(rng.integers(image.shape[0])), int(rng.integers(image.shape[1]))
    patch = image[y : y + height, x : x + width]
    patch *= rng.uniform(0.72, 1.18)
    seam = (slice(y, y + height), slice(x, x + width))
    edge = np.ones(patch.shape[:2], np.float32)
    edge[:1], edge[-1:], edge[:, :2], edge[:, -2:] = 0.55, 0.55, 0.55, 0.55
    image[seam] *= edge[..., None]


def _crack(rng: np.random.Generator, image: F32) -> None:
    steps = rng.normal(0, 1, (int(rng.integers(6, 30)), 2)) * (7, 5) + rng.normal(0, 4, 2)
    start = np.array([rng.integers(image.shape[1]), rng.integers(image.shape[0])])
    points = (start + np.cumsum(steps, axis=0)).astype(np.int32)
    shade = rng.uniform(0.12, 0.28)
    cv2.polylines(
        image, [points], False, (shade, shade, shade), int(rng.integers(1, 3)), cv2.LINE_AA
    )


def _pavement(rng: np.random.Generator, palette: Palette, rows: int, columns: int) -> F32:
    """Slabs or setts, or grass with bare earth."""
    pattern = structure(palette.photo(rng, TILE))
    fine = palette.noise(rng, "fine", TILE, TILE)
    if rng.random() < 0.35:
        base = np.array([0.29, 0.33, 0.18], np.float32) * rng.uniform(0.8, 1.2)
        grass = tint(
            _spread(rng, 0.5 * pattern + fine, rows, columns), base.astype(np.float32), 0.2
        )
        bare = _spread(rng, palette.noise(rng, "cloudy", TILE, TILE), rows, columns)
        earth = np.clip(bare - 0.7, 0, 1)[..., None] * np.array([0.1, 0.05, 0.04], np.float32)
        return np.asarray(grass + earth, np.float32)
    tile = tint(0.4 * pattern + 0.7 * fine, colour(rng, 0.08, 0.42, 0.62), 0.09)
    image = _spread(rng, tile, rows, columns)
    slab = rng.uniform(0.3, 0.8)
    pitch_x, pitch_y = slab / METRES_ACROSS, slab / METRES_ALONG
    x = (np.arange(columns) / pitch_x).astype(int)
    y = (np.arange(rows) / pitch_y).astype(int)
    tones = rng.normal(1, 0.07, (y[-1] + 1, x[-1] + 1)).astype(np.float32)
    image = image * tones[y[:, None], x[None, :]][..., None]
    joint_x = (np.arange(columns) / pitch_x) % 1 < 1.3 / pitch_x
    joint_y = (np.arange(rows) / pitch_y) % 1 < 1.0 / pitch_y
    image[joint_y] *= 0.8
    image[:, joint_x] *= 0.72
    return np.asarray(image, np.float32)


def _kerb(rng: np.random.Generator, image: F32, lateral: float) -> None:
    """Row of kerb stones of 1 m length, with a dark gutter on the side of the road."""
    outer = lateral + (KERB if lateral > 0 else -KERB)
    low, high = sorted((_column(lateral), _column(outer)))
    stone = (np.arange(len(image)) * METRES_ALONG).astype(int)
    tones = rng.normal(0.62, 0.06, stone[-1] + 1).astype(np.float32)[stone]
    tones[np.diff(stone, prepend=0) > 0] *= 0.6
    image[:, low:high] = tones[:, None, None]
    gutter = slice(low - 8, low) if lateral > 0 else slice(high, high + 8)
    image[:, gutter] *= 0.7


def _markings(rng: np.random.Generator, palette: Palette, image: F32) -> None:
    """Worn markings: dashed centre line, parking lines, zebra crossings, arrows."""
    paint = np.zeros(image.shape[:2], np.float32)
    rows = np.arange(len(image)) * METRES_ALONG
    dash, gap = rng.choice([3.0, 4.0, 6.0]), rng.choice([3.0, 6.0, 8.0])
    centre = _column(LANE)
    paint[(rows + rng.uniform(0, 9)) % (dash + gap) < dash, centre - 3 : centre + 3] = 1
    for lateral in (-1.95, 5.3):
        if rng.random() < 0.75:
            at = _column(lateral)
            paint[:, at - 2 : at + 2] = 1
            bays = (rows + rng.uniform(0, 5)) % 5.5 < 0.12
            outward = slice(at - 60, at) if lateral < 0 else slice(at, at + 60)
            paint[bays, outward] = 1
    start = rng.uniform(5, 40)
    while start < rows[-1]:
        first = int(start / METRES_ALONG)
        if rng.random() < 0.5:
            stripes = (np.arange(_column(5.2) - _column(-1.9)) * METRES_ACROSS) % 1.0 < 0.5
            paint[first : first + int(3 / METRES_ALONG), _column(-1.9) : _column(5.2)] = stripes
        else:
            _arrow(paint, first)
        start += rng.uniform(22, 70)
    wear = palette.noise(rng, "natural", *image.shape[:2])
    paint *= np.clip(0.82 - 0.3 * wear, 0.1, 0.95)
    paint = paint[..., None]
    image += paint * (0.86 - image)


def _arrow(paint: F32, row: int) -> None:
    """Straight-ahead arrow of 4 m length in the car's lane."""
    long, wide = int(4 / METRES_ALONG), int(0.45 / METRES_ACROSS)
    centre = _column(0.0)
    paint[row : row + long // 2, centre - wide // 5 : centre + wide // 5] = 1
    tip = np.array(
        [(centre - wide, row + long // 2), (centre + wide, row + long // 2), (centre, row + long)]
    )
    cv2.fillPoly(paint, [tip.astype(np.int32)], 1.0)


def _road_grid(road: Road) -> tuple[F64, F32]:
    """Corner and road coordinates of a grid around the road."""
    reach = HALF_WIDTH + 24
    corner = np.floor(road.position_N2.min(axis=0) - reach)
    nodes = np.ceil((road.position_N2.max(axis=0) + reach - corner) / GRID_METRES).astype(int) + 1
    x = corner[0] + GRID_METRES * np.arange(nodes[0])
    y = corner[1] + GRID_METRES * np.arange(nodes[1])
    points = np.stack(np.meshgrid(x, y), axis=-1)
    coarse = slice(None, None, 8)
    samples = road.position_N2[coarse]
    distance = np.full(points.shape[:2], np.inf)
    nearest = np.zeros(points.shape[:2], np.intp)
    for index, sample in enumerate(samples):
        squared = (points[..., 0] - sample[0]) ** 2 + (points[..., 1] - sample[1]) ** 2
        closer = squared < distance
        np.copyto(distance, squared, where=closer)
        np.copyto(nearest, index, where=closer)
    base = nearest * 8
    # Newton steps from the nearest sample. The road turns by less than 3 degrees between samples.
    s = road.start + STEP * base
    for _ in range(2):
        heading = road.heading(s)
        offset = points - road.point(s)
        s = s + offset[..., 0] * np.cos(heading) + offset[..., 1] * np.sin(heading)
    heading = road.heading(s)
    offset = points - road.point(s)
    lateral = -offset[..., 0] * np.sin(heading) + offset[..., 1] * np.cos(heading)
    return corner, np.stack([s, lateral], axis=-1).astype(np.float32)
