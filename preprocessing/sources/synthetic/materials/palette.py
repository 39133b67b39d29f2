"""Texture tiles of walls, concrete, leaves, bark and panels, float32 RGB in 0..1, and masks."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.preprocessing.sources.synthetic.materials.textures import (
    F32,
    MipAtlas,
    Palette,
    spectral_noise,
    structure,
    tint,
)

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True)
class Material:
    """A texture and its optical properties.

    ``reflectance`` is the mean LiDAR intensity, ``gloss`` the share of reflected sky, ``grain`` the
    strength of the fine grain, and ``taps`` the number of look-ups in anisotropic filtering.
    """

    atlas: MipAtlas
    reflectance: float
    gloss: float = 0.0
    grain: float = 1.0
    taps: int = 2


def colour(rng: np.random.Generator, saturation: float, low: float, high: float) -> F32:
    """Random warm or cool colour [3] with brightness from ``low`` to ``high``."""
    grey = rng.uniform(low, high)
    warmth, green = rng.uniform(-1, 1), 0.25 * rng.normal()
    hue = saturation * np.array([warmth, green, -warmth])
    return np.clip(grey * (1 + hue), 0.02, 0.98).astype(np.float32)


def wall_colour(rng: np.random.Generator) -> F32:
    """Random colour of plaster, sandstone or brick."""
    base = np.array(
        [
            (0.66, 0.6, 0.5),
            (0.62, 0.62, 0.6),
            (0.52, 0.34, 0.27),
            (0.72, 0.67, 0.56),
            (0.5, 0.47, 0.44),
        ]
    )[rng.integers(5)]
    return np.asarray(
        np.clip(base * rng.uniform(0.85, 1.3) + rng.normal(0, 0.025, 3), 0.1, 0.95).astype(
            np.float32
        )
    )


def brick_tile(rng: np.random.Generator, palette: Palette, size: int) -> F32:
    """Seamless procedural masonry [size, size, 3]. The tone varies by stone."""
    rows = int(rng.choice([16, 24, 32]))
    columns = rows // 2
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    row = np.floor(y * rows)
    along = x * columns + 0.5 * (row % 2)
    stone = np.floor(along) % columns
    tones = rng.normal(0, 1, (rows, columns)).astype(np.float32)
    tone = tones[row.astype(int), stone.astype(int)]
    edge = np.minimum((y * rows) % 1, 1 - (y * rows) % 1)
    side = 2 * np.minimum(along % 1, 1 - along % 1)
    mortar = np.clip(np.minimum(edge, side) / 0.12, 0, 1)
    pattern = 0.7 * tone + 0.5 * palette.noise(rng, "natural", size, size)
    stones = tint(pattern, wall_colour(rng), 0.14)
    joint = colour(rng, 0.05, 0.4, 0.7)
    return np.asarray(
        (stones * mortar[..., None] + joint * (1 - mortar[..., None])).astype(np.float32)
    )


def wall_tile(rng: np.random.Generator, palette: Palette, size: int) -> F32:
    """Masonry, plaster, or stone with the structure of a photograph."""
    kind = int(rng.integers(4))
    if kind == 0:
        return brick_tile(rng, palette, size)
    base = wall_colour(rng)
    plaster = palette.noise(rng, "natural" if rng.random() < 0.6 else "cloudy", size, size)
    if kind == 1:
        return tint(plaster, base, 0.08)
    pattern = structure(palette.photo(rng, size))
    return tint(0.8 * pattern + 0.5 * plaster, base, float(rng.uniform(0.08, 0.2)))


def concrete_tile(rng: np.random.Generator, palette: Palette, size: int) -> F32:
    """Grey weathered concrete, stone or metal."""
    streaks = palette.noise(rng, "streaks", size, size)
    fine = palette.noise(rng, "fine", size, size)
    return tint(0.7 * streaks + 0.6 * fine, colour(rng, 0.05, 0.3, 0.6), 0.12)


def bark_tile(rng: np.random.Generator, palette: Palette, size: int) -> F32:
    """Bark with vertical streaks."""
    pattern = palette.noise(rng, "streaks", size, size)
    return tint(pattern, np.array([0.3, 0.25, 0.2], np.float32) * rng.uniform(0.8, 1.3), 0.3)


def leaf_tile(rng: np.random.Generator, palette: Palette, size: int) -> F32:
    """Green foliage: structure of a photograph, and light and dark clumps."""
    pattern = structure(palette.photo(rng, size))
    clumps = palette.noise(rng, "cloudy", size, size)
    fine = palette.noise(rng, "fine", size, size)
    base = np.array([0.24, 0.3, 0.14]) * rng.uniform(0.75, 1.2) + rng.normal(0, 0.025, 3)
    green = tint(0.5 * pattern + 0.7 * clumps + 0.7 * fine, base.astype(np.float32), 0.38)
    yellow = np.clip(0.5 + 0.5 * palette.noise(rng, "cloudy", size, size), 0, 1)[..., None]
    return np.asarray(
        np.clip(green * (1 + 0.15 * yellow * np.array([1.0, 0.5, -0.3])), 0, 1).astype(np.float32)
    )


def panel_tile(rng: np.random.Generator, palette: Palette, height: int, width: int) -> F32:
    """Poster, shop sign or truck side: a recoloured crop of a photograph, with letters."""
    tile = palette.photo(rng, 256)
    start = rng.integers(0, 64, 2)
    crop = tile[start[0] : start[0] + 160, start[1] : start[1] + 192]
    scaled = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA)
    mix = rng.uniform(0.0, 0.6)
    image: F32 = scaled * (1 - mix) + mix * colour(rng, 0.3, 0.15, 0.8)
    ink = colour(rng, 0.25, 0.05, 0.95)
    for _ in range(int(rng.integers(0, 3))):
        write_text(rng, image, ink)
    return np.clip(image, 0, 1).astype(np.float32)


def write_text(rng: np.random.Generator, image: F32, ink: F32) -> None:
    """Paint a random word at a random place of ``image``."""
    height, width = image.shape[:2]
    word = "".join(rng.choice(list(LETTERS), int(rng.integers(3, 8))))
    at = int(rng.integers(-width // 8, width // 2)), int(rng.integers(height // 4, height))
    letter(image, word, at, height / 90 * float(rng.uniform(0.5, 1.6)), ink)


def letter(image: F32, word: str, at: tuple[int, int], scale: float, ink: F32) -> None:
    """Paint ``word`` with its bottom-left corner at pixel ``at``."""
    cover = np.zeros(image.shape[:2], np.uint8)
    thickness = max(1, int(scale * 2.2))
    cv2.putText(cover, word, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (255,), thickness, cv2.LINE_AA)
    image += (cover.astype(np.float32) / 255)[..., None] * (ink - image)


def blob_mask(rng: np.random.Generator, size: int, cover: float) -> NDArray[np.bool_]:
    """Mask [size, size] of a ragged clump of leaves that fills about ``cover`` of the centre."""
    y, x = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) / size * 2 - 1
    ragged = spectral_noise(rng, size, size, 1.0)
    threshold = np.quantile(ragged, 1 - cover)
    fall = np.clip(np.hypot(x, y), 0, 1.4) ** 4 * 2.5
    return np.asarray(ragged - fall > threshold)


def fence_mask(rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    """Mask [size, size] of railings: bars and two rails."""
    bars = int(rng.choice([10, 14, 20]))
    x = (np.arange(size) / size * bars) % 1
    y = np.arange(size) / size
    upright = np.broadcast_to(x < rng.uniform(0.25, 0.6), (size, size))
    rails = ((y > 0.12) & (y < 0.2)) | ((y > 0.8) & (y < 0.88))
    return np.asarray(upright | rails[:, None])


def gable_mask(size: int) -> NDArray[np.bool_]:
    """Mask [size, size] of the triangle below a pitched roof. Row 0 is the top."""
    x = np.abs((np.arange(size) + 0.5) / size * 2 - 1)
    height = 1 - (np.arange(size) + 0.5) / size
    return np.asarray(height[:, None] < 1 - x[None, :])
