"""Textures of cars and trucks: sides with their outlines, rear, front, paint and glass."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.preprocessing.sources.synthetic.materials.palette import (
    LETTERS,
    colour,
    letter,
    panel_tile,
)
from ucn.preprocessing.sources.synthetic.materials.textures import F32, U8, Palette

SIDE_WIDTH, SIDE_HEIGHT = 384, 128
MASK_SCALE = 4
"""Resolution of the mask relative to the texture. Keeps outlines smooth at short distances."""
CLEARANCE = 0.22

PROFILES: dict[str, tuple[tuple[float, float], ...]] = {
    "hatchback": (
        (0, 0.3),
        (0, 0.55),
        (0.05, 0.62),
        (0.12, 0.97),
        (0.2, 1),
        (0.52, 1),
        (0.7, 0.62),
        (0.97, 0.5),
        (1, 0.42),
    ),
    "saloon": (
        (0, 0.3),
        (0, 0.62),
        (0.16, 0.66),
        (0.28, 0.98),
        (0.36, 1),
        (0.55, 1),
        (0.7, 0.66),
        (0.97, 0.54),
        (1, 0.42),
    ),
    "estate": (
        (0, 0.3),
        (0, 0.55),
        (0.03, 0.64),
        (0.08, 0.96),
        (0.14, 1),
        (0.54, 1),
        (0.7, 0.64),
        (0.97, 0.52),
        (1, 0.42),
    ),
    "van": (
        (0, 0.2),
        (0, 0.5),
        (0.01, 0.97),
        (0.05, 1),
        (0.72, 1),
        (0.8, 0.93),
        (0.92, 0.5),
        (0.99, 0.42),
        (1, 0.3),
    ),
    "truck": (
        (0, 0.15),
        (0, 0.5),
        (0, 1),
        (0.1, 1),
        (0.78, 1),
        (0.8, 0.8),
        (0.97, 0.78),
        (1, 0.5),
        (1, 0.3),
    ),
}
"""Upper outline from rear to front bumper, as (x / length, z / height)."""

SIZES = {
    "hatchback": (3.9, 1.7, 1.46),
    "saloon": (4.5, 1.78, 1.43),
    "estate": (4.6, 1.78, 1.5),
    "van": (4.9, 1.92, 2.0),
    "truck": (7.2, 2.4, 3.1),
}
"""Length, width and height in metres."""

TONES = (
    (0.75, 0.76, 0.78),
    (0.12, 0.12, 0.13),
    (0.4, 0.42, 0.45),
    (0.85, 0.85, 0.83),
    (0.45, 0.07, 0.07),
    (0.1, 0.17, 0.38),
    (0.13, 0.24, 0.19),
    (0.58, 0.5, 0.36),
    (0.24, 0.26, 0.3),
)
"""Colours of the paint: silver, black, grey, white, red, blue, green, beige, graphite."""


@dataclass(frozen=True)
class VehicleSkin:
    """Textures [H, W, 3] of a vehicle, and the mask of its side.

    Row 0 of every texture is the top. The front is at the right edge of the side.
    """

    kind: str
    size: tuple[float, float, float]
    side: F32
    side_mask: NDArray[np.bool_]
    rear: F32
    front: F32
    paint: F32
    glass: F32


def paint_vehicle(
    rng: np.random.Generator, palette: Palette, kind: str, tone_number: int
) -> VehicleSkin:
    """Make the textures of a vehicle.

    Args:
        rng: random number generator.
        palette: photographs and noise.
        kind: a key of ``PROFILES``.
        tone_number: index into ``TONES``, modulo its length. The paint varies around this colour.
    """
    scale = rng.uniform(0.95, 1.06)
    length, width, height = SIZES[kind]
    size = (length * scale, width * scale, height * rng.uniform(0.96, 1.04))
    tone = np.array(TONES[tone_number % len(TONES)]) * rng.uniform(0.85, 1.1)
    paint = np.clip(tone + rng.normal(0, 0.02, 3), 0.03, 0.95).astype(np.float32)
    rear = _end(rng, paint, rear=True)
    if kind == "truck":
        rear[3:40, 4:-4] = panel_tile(rng, palette, 37, rear.shape[1] - 8)
    side, mask = _side(rng, palette, kind, paint, size)
    flat = paint * (1 + 0.04 * palette.noise(rng, "natural", 64, 64)[..., None])
    return VehicleSkin(
        kind,
        size,
        side,
        mask,
        rear,
        _end(rng, paint, rear=False),
        np.clip(flat, 0, 1).astype(np.float32),
        _glass(rng, palette, 64, 64),
    )


def _side(
    rng: np.random.Generator,
    palette: Palette,
    kind: str,
    paint: F32,
    size: tuple[float, float, float],
) -> tuple[F32, NDArray[np.bool_]]:
    shade = np.linspace(1.12, 0.7, SIDE_HEIGHT)[:, None, None]
    image = (
        paint
        * shade
        * (1 + 0.03 * palette.noise(rng, "natural", SIDE_HEIGHT, SIDE_WIDTH)[..., None])
    ).astype(np.float32)
    outline = np.array(PROFILES[kind]) * (1, -1) * (SIDE_WIDTH, SIDE_HEIGHT) + (0, SIDE_HEIGHT)
    sill = SIDE_HEIGHT * (1 - CLEARANCE / size[2])
    ground = round(sill)
    body = np.concatenate([[[0, sill]], outline[1:-1], [[SIDE_WIDTH, sill]]])
    mask = np.zeros((SIDE_HEIGHT * MASK_SCALE, SIDE_WIDTH * MASK_SCALE), np.uint8)
    cv2.fillPoly(mask, [np.round(body * MASK_SCALE).astype(np.int32)], 1)
    if kind == "truck":
        x1 = int(SIDE_WIDTH * 0.77)
        y1 = int(SIDE_HEIGHT * 0.72)
        image[3:y1, 3:x1] = panel_tile(rng, palette, y1 - 3, x1 - 3)
        image[y1:ground] *= 0.35
        _quad_glass(rng, palette, image, [(0.83, 0.5), (0.83, 0.72), (0.95, 0.72), (0.97, 0.5)])
    elif kind == "van":
        _quad_glass(rng, palette, image, [(0.62, 0.55), (0.62, 0.9), (0.78, 0.88), (0.88, 0.55)])
        if rng.random() < 0.6:
            x0, x1, y0, y1 = 30, int(SIDE_WIDTH * 0.55), 20, 70
            image[y0:y1, x0:x1] = 0.5 * image[y0:y1, x0:x1] + 0.5 * panel_tile(
                rng, palette, y1 - y0, x1 - x0
            )
    else:
        rear = PROFILES[kind][3][0]
        _quad_glass(
            rng,
            palette,
            image,
            [(rear - 0.03, 0.64), (rear + 0.04, 0.93), (0.42, 0.93), (0.42, 0.64)],
        )
        _quad_glass(rng, palette, image, [(0.44, 0.64), (0.44, 0.93), (0.51, 0.93), (0.645, 0.64)])
    ink = (0.35 * paint).tolist()
    for x in (0.43, 0.66, 0.2) if kind != "truck" else (0.8,):
        column = int(x * SIDE_WIDTH)
        cv2.line(
            image, (column, int(SIDE_HEIGHT * 0.36)), (column, ground - 8), ink, 1, cv2.LINE_AA
        )
    cv2.line(
        image,
        (8, int(SIDE_HEIGHT * 0.5)),
        (SIDE_WIDTH - 8, int(SIDE_HEIGHT * 0.52)),
        ink,
        1,
        cv2.LINE_AA,
    )
    image[ground - 9 : ground] *= 0.45
    radius = int(0.32 / size[2] * SIDE_HEIGHT)
    aspect = (SIDE_WIDTH / size[0]) / (SIDE_HEIGHT / size[2])
    for x in (0.19, 0.81):
        centre = (int(x * SIDE_WIDTH), SIDE_HEIGHT - radius)
        _wheel(rng, image, mask, centre, radius, aspect)
    return np.clip(image, 0, 1), mask.astype(bool)


def _pixels(points: tuple[tuple[float, float], ...]) -> NDArray[np.int32]:
    return np.array(
        [(round(x * SIDE_WIDTH), round((1 - z) * SIDE_HEIGHT)) for x, z in points], np.int32
    )


def _quad_glass(
    rng: np.random.Generator, palette: Palette, image: F32, points: list[tuple[float, float]]
) -> None:
    area = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(area, [_pixels(tuple(points))], 1)
    glass = _glass(rng, palette, SIDE_HEIGHT, SIDE_WIDTH)
    image[area > 0] = glass[area > 0]
    cv2.polylines(image, [_pixels(tuple(points))], True, (0.04, 0.04, 0.04), 2, cv2.LINE_AA)


def _glass(rng: np.random.Generator, palette: Palette, height: int, width: int) -> F32:
    ramp = np.linspace(rng.uniform(0.2, 0.5), 0.1, height)[:, None, None]
    mirrored = 1 + 0.15 * palette.noise(rng, "cloudy", height, width)[..., None]
    return np.asarray(
        np.clip(ramp * mirrored * np.array([0.85, 0.95, 1.05]), 0.02, 1).astype(np.float32)
    )


def _wheel(
    rng: np.random.Generator,
    image: F32,
    mask: U8,
    centre: tuple[int, int],
    radius: int,
    aspect: float,
) -> None:
    axes = (int(radius * aspect), radius)
    arch = (int(axes[0] * 1.18), int(axes[1] * 1.18))
    cv2.ellipse(image, centre, arch, 0, 180, 360, (0.03, 0.03, 0.03), -1, cv2.LINE_AA)
    cv2.ellipse(image, centre, axes, 0, 0, 360, (0.09, 0.09, 0.09), -1, cv2.LINE_AA)
    large = [tuple(MASK_SCALE * value for value in pair) for pair in (centre, axes)]
    cv2.ellipse(mask, large[0], large[1], 0, 0, 360, (1,), -1)
    hub = (int(axes[0] * 0.62), int(axes[1] * 0.62))
    cv2.ellipse(image, centre, hub, 0, 0, 360, (0.55, 0.55, 0.57), -1, cv2.LINE_AA)
    spokes = int(rng.integers(5, 9))
    for angle in 2 * np.pi * np.arange(spokes) / spokes:
        end = (int(centre[0] + hub[0] * np.cos(angle)), int(centre[1] + hub[1] * np.sin(angle)))
        cv2.line(image, centre, end, (0.2, 0.2, 0.2), 2, cv2.LINE_AA)


def _end(rng: np.random.Generator, paint: F32, *, rear: bool) -> F32:
    """Rear or front [96, 160, 3]: lights, number plate, bumper, and the grille of the front."""
    height, width = 96, 160
    image = np.ones((height, width, 3), np.float32) * paint
    image = image * np.linspace(1.05, 0.75, height)[:, None, None].astype(np.float32)
    lamp = (0.7, 0.08, 0.05) if rear else (0.9, 0.92, 0.9)
    top, low = int(height * rng.uniform(0.42, 0.48)), int(height * rng.uniform(0.54, 0.6))
    reach = int(width * rng.uniform(0.14, 0.24))
    for x0, x1 in ((4, reach), (width - reach, width - 4)):
        cv2.rectangle(image, (x0, top), (x1, low), lamp, -1)
        cv2.rectangle(image, (x0, top), (x1, low), (0.1, 0.1, 0.1), 1)
    if not rear:
        image[top + 2 : low + 4, reach + 6 : width - reach - 6] = 0.08
        image[top + 5 : low : 4, reach + 6 : width - reach - 6] = 0.3
    plate = (int(width * 0.33), int(height * 0.63))
    cv2.rectangle(image, plate, (int(width * 0.67), int(height * 0.75)), (0.9, 0.9, 0.88), -1)
    word = "".join(rng.choice(list(LETTERS), 7))
    letter(image, word, (plate[0] + 2, int(height * 0.74)), 0.36, np.full(3, 0.05, np.float32))
    image[int(height * 0.78) :] *= 0.4
    cv2.line(
        image, (6, int(height * 0.62)), (width - 6, int(height * 0.62)), (0.3 * paint).tolist(), 1
    )
    glow = colour(rng, 0.0, 0.9, 1.0).mean()
    return np.asarray(np.clip(image * glow, 0, 1).astype(np.float32))
