"""Textures of facades: storeys of windows above shops or doors. Row 0 is the top."""

import cv2
import numpy as np

from ucn.preprocessing.sources.synthetic.materials.palette import colour, panel_tile, wall_tile
from ucn.preprocessing.sources.synthetic.materials.textures import F32, TILE, Palette

SIZE = TILE
STOREY_METRES = 3.1


def paint_facade(
    rng: np.random.Generator, palette: Palette, width_metres: float, storeys: int
) -> F32:
    """Paint a facade [SIZE, SIZE, 3].

    Args:
        rng: random number generator.
        palette: textures.
        width_metres: width of the facade, metres.
        storeys: number of storeys.
    """
    image = wall_tile(rng, palette, SIZE).copy()
    storey = SIZE / storeys
    columns = max(2, round(width_metres / rng.uniform(1.9, 3.2)))
    bay = SIZE / columns
    window_width, window_height = bay * rng.uniform(0.4, 0.72), storey * rng.uniform(0.45, 0.65)
    frame = colour(rng, 0.1, 0.2, 0.98)
    shop = bool(rng.random() < 0.5)
    band = bool(rng.random() < 0.5)
    for level in range(storeys):
        bottom = SIZE - level * storey
        if level == 0 and shop:
            _shop_front(rng, palette, image, int(bottom - storey), int(bottom))
            continue
        if band:
            y = int(bottom - storey)
            image[max(y, 0) : y + max(2, SIZE // 128)] *= 0.72
        for column in range(columns):
            x0 = int(column * bay + (bay - window_width) / 2)
            y1 = int(bottom - storey * 0.2)
            y0 = int(y1 - window_height)
            if level == 0 and column == columns // 2:
                _door(
                    rng,
                    palette,
                    image,
                    x0,
                    int(bottom - storey * 0.72),
                    x0 + int(window_width),
                    int(bottom),
                )
            elif rng.random() < 0.94:
                _window(rng, palette, image, x0, y0, x0 + int(window_width), y1, frame)
    image[: SIZE // 40] *= 0.7
    _weather(rng, palette, image)
    return np.clip(image, 0, 1).astype(np.float32)


def _window(
    rng: np.random.Generator,
    palette: Palette,
    image: F32,
    x0: int,
    y0: int,
    x1: int,
    y1: int,
    frame: F32,
) -> None:
    """Window with reflecting glass, optional blind, frame, bars and sill."""
    if x1 - x0 < 6 or y1 - y0 < 6 or y0 < 0:
        return
    edge = max(1, (x1 - x0) // 14)
    image[y0 - edge : y1 + edge, x0 - edge : x1 + edge] = frame
    height, width = y1 - y0, x1 - x0
    mirrored = cv2.resize(palette.photo(rng, 64), (width, height))
    ramp = np.linspace(rng.uniform(0.25, 0.6), rng.uniform(0.05, 0.3), height)[:, None, None]
    mirrored = 0.7 * mirrored.mean(axis=2, keepdims=True) + 0.3 * mirrored
    glass = ramp * np.array([0.93, 1.0, 1.07]) * (0.45 + 0.8 * mirrored)
    if rng.random() < 0.45:
        cut = int(height * rng.uniform(0.15, 1.0))
        blind = (
            colour(rng, 0.15, 0.45, 0.9) * np.where(np.arange(cut) % 4 < 3, 1, 0.8)[:, None, None]
        )
        glass[:cut] = 0.25 * glass[:cut] + 0.75 * blind
    image[y0:y1, x0:x1] = glass
    for bar in range(1, int(rng.integers(1, 4))):
        at = x0 + bar * width // 2
        image[y0:y1, at : at + edge] = frame
    if rng.random() < 0.5:
        at = y0 + height // 3
        image[at : at + edge, x0:x1] = frame
    sill = max(2, height // 16)
    image[y1 + edge : y1 + edge + sill, max(x0 - 2 * edge, 0) : x1 + 2 * edge] = 0.8 * frame + 0.1
    image[y1 + edge + sill : y1 + edge + 2 * sill, max(x0 - 2 * edge, 0) : x1 + 2 * edge] *= 0.6


def _door(
    rng: np.random.Generator, palette: Palette, image: F32, x0: int, y0: int, x1: int, y1: int
) -> None:
    paint = colour(rng, 0.25, 0.1, 0.45)
    image[max(y0 - 4, 0) : y1, max(x0 - 4, 0) : x1 + 4] *= 0.55
    image[y0:y1, x0:x1] = paint * (
        1 + 0.06 * palette.noise(rng, "natural", y1 - y0, x1 - x0)[..., None]
    )
    inset = max(2, (x1 - x0) // 6)
    middle = (y0 + y1) // 2
    for top, end in ((y0 + inset, middle - inset), (middle + inset, y1 - inset)):
        image[top:end, x0 + inset : x1 - inset] *= 0.6


def _shop_front(rng: np.random.Generator, palette: Palette, image: F32, y0: int, y1: int) -> None:
    """Sign above shop windows with pillars between them."""
    y0 = max(y0, 0)
    sign = y0 + max(6, (y1 - y0) // 4)
    image[y0:sign] = panel_tile(rng, palette, sign - y0, SIZE)
    panes = int(rng.integers(2, 5))
    width = SIZE // panes
    image[sign:y1] *= 0.8
    for pane in range(panes):
        x0, x1 = pane * width + width // 14, (pane + 1) * width - width // 14
        low = y1 - max(3, (y1 - y0) // int(rng.integers(6, 16)))
        display = panel_tile(rng, palette, low - sign - 2, x1 - x0)
        light = rng.uniform(0.35, 0.85)
        image[sign + 2 : low, x0:x1] = display * light
        image[sign + 2 : low, x0 : x0 + 3] *= 0.5


def _weather(rng: np.random.Generator, palette: Palette, image: F32) -> None:
    """Adds streaks, blotches, and dirt at the bottom."""
    streaks = palette.noise(rng, "streaks", SIZE, SIZE)
    blotches = palette.noise(rng, "cloudy", SIZE, SIZE)
    dirt = np.exp(-(SIZE - 1 - np.arange(SIZE)) / 18)[:, None]
    image *= np.clip(1 + 0.05 * streaks + 0.05 * blotches - 0.25 * dirt, 0.3, 1.3)[..., None]
