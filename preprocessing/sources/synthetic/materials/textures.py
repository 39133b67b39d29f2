"""Textures from photographs and noise, mipmaps, and filtered look-ups.

Colours are gamma-coded (sRGB-like), as float32 in 0..1 or uint8.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image

from ucn.errors import UserError
from ucn.preprocessing.sources.synthetic.config import TextureSplit

# float32 and float64 by convention. numpy's static types lose the precision in mixed arithmetic.
F32 = NDArray[np.floating]
F64 = NDArray[np.floating]
U8 = NDArray[np.uint8]

PHOTOS: dict[TextureSplit, tuple[str, ...]] = {
    "train": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "coffee.png",
        "coins.png",
        "gravel.png",
        "ihc.png",
        "page.png",
    ),
    "heldout": (
        "chelsea.png",
        "grass.png",
        "hubble_deep_field.jpg",
        "moon.png",
        "retina.jpg",
        "rocket.jpg",
        "text.png",
    ),
}
"""Files in scikit-image's wheel. Its stereo pair is left out, because it is a test set."""

NoiseKind = Literal["fine", "natural", "cloudy", "streaks"]
TILE = 512
PADDING = 2
"""Texels repeated around each mipmap level, so that bilinear look-ups wrap around."""
MAX_LEVELS = 10
SHARPNESS = 0.4
"""Mipmap levels by which look-ups are finer than the footprint. The camera's blur of half a pixel
is added later."""


@dataclass(frozen=True)
class MipAtlas:
    """All mipmap levels of one texture in a single image, so that one remap reads several levels.

    ``corner_L2`` is x, y of the first texel of each level. ``size_L2`` is its width and height.
    """

    image: U8
    corner_L2: F32
    size_L2: F32


def photo_names(split: TextureSplit) -> tuple[str, ...]:
    """File names of the photographs in ``split``. ``all`` is the union of the other two."""
    return PHOTOS["train"] + PHOTOS["heldout"] if split == "all" else PHOTOS[split]


def load_photos(split: TextureSplit) -> list[U8]:
    """Load the photographs of ``split`` as uint8 [H, W, 3] RGB, in a fixed order.

    Raises:
        UserError: scikit-image was installed without its images.
    """
    folder = Path(skimage.__file__).parent / "data"
    photos = []
    for name in photo_names(split):
        try:
            with Image.open(folder / name) as picture:
                photos.append(np.asarray(picture.convert("RGB"), np.uint8))
        except OSError as error:
            raise UserError(f"{folder / name}: {error}; reinstall scikit-image") from error
    return photos


def spectral_noise(
    rng: np.random.Generator, height: int, width: int, beta: float, stretch: float = 1.0
) -> F32:
    """Seamless noise [height, width] with amplitude spectrum 1/f^beta, mean 0, deviation 1.

    Natural images have beta near 1. ``stretch`` > 1 stretches the noise
    horizontally, ``stretch`` < 1 vertically.
    """
    white = np.fft.rfft2(rng.standard_normal((height, width), np.float32))
    fy = np.fft.fftfreq(height)[:, None] * height
    fx = np.fft.rfftfreq(width)[None, :] * width
    frequency = np.hypot(fx * stretch, fy)
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(white / frequency**beta, s=(height, width))
    return np.asarray((noise / noise.std()).astype(np.float32))


@dataclass(frozen=True)
class Palette:
    """Photographs and noise tiles. Noise tiles are reused with random shifts."""

    photos: list[U8]
    noises: dict[NoiseKind, F32]

    def noise(self, rng: np.random.Generator, kind: NoiseKind, height: int, width: int) -> F32:
        """Noise [height, width], mean 0, deviation 1. Seamless at the size ``TILE`` x ``TILE``."""
        tile = self.noises[kind]
        shift = int(rng.integers(TILE)), int(rng.integers(TILE))
        mirrored = tile[:, ::-1] if rng.random() < 0.5 else tile
        rolled = np.roll(mirrored, shift, axis=(0, 1))
        if height <= TILE and width <= TILE:
            return rolled[:height, :width]
        return cv2.resize(rolled, (width, height), interpolation=cv2.INTER_LINEAR).astype(
            np.float32
        )

    def photo(self, rng: np.random.Generator, size: int) -> F32:
        """Seamless texture [size, size, 3] from a random photograph."""
        return photo_tile(rng, self.photos[rng.integers(len(self.photos))], size)


def make_palette(rng: np.random.Generator, split: TextureSplit) -> Palette:
    """Load the photographs of ``split`` and make the noise tiles."""
    noises: dict[NoiseKind, F32] = {
        "fine": spectral_noise(rng, TILE, TILE, 0.6),
        "natural": spectral_noise(rng, TILE, TILE, 1.0),
        "cloudy": spectral_noise(rng, TILE, TILE, 1.4),
        "streaks": spectral_noise(rng, TILE, TILE, 1.15, stretch=0.2),
    }
    return Palette(load_photos(split), noises)


def photo_tile(rng: np.random.Generator, photo: U8, size: int) -> F32:
    """Seamless texture [size, size, 3] in 0..1 from a random mirrored crop of ``photo``."""
    half = size // 2
    extent = int(min(*photo.shape[:2], rng.integers(160, 420)))
    y = int(rng.integers(0, photo.shape[0] - extent + 1))
    x = int(rng.integers(0, photo.shape[1] - extent + 1))
    crop = cv2.resize(
        photo[y : y + extent, x : x + extent], (half, half), interpolation=cv2.INTER_AREA
    )
    crop = np.rot90(crop, int(rng.integers(4)))
    rows = np.concatenate([crop, crop[::-1]], axis=0)
    tile = np.concatenate([rows, rows[:, ::-1]], axis=1)
    shift = rng.integers(0, size, 2)
    return np.roll(tile, (int(shift[0]), int(shift[1])), axis=(0, 1)).astype(np.float32) / 255


def structure(tile: F32) -> F32:
    """Luminance [H, W] of a colour image without low frequencies, mean 0, deviation 1."""
    grey = tile.mean(axis=2)
    coarse = cv2.resize(grey, (8, 8), interpolation=cv2.INTER_AREA)
    detail = grey - cv2.resize(coarse, grey.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray((detail / max(float(detail.std()), 1e-3)).astype(np.float32))


def tint(pattern: F32, colour: F32, contrast: float) -> F32:
    """Image [H, W, 3] of one colour whose brightness follows a zero-mean pattern [H, W]."""
    return np.clip(colour * (1 + contrast * pattern[..., None]), 0, 1).astype(np.float32)


def mip_atlas(image: NDArray[Any]) -> MipAtlas:
    """Make the mipmaps of a texture.

    Args:
        image: [H, W] or [H, W, C], values in 0..1 or uint8. H and W are even.
    """
    if image.dtype != np.uint8:
        image = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    levels = [image]
    while len(levels) < MAX_LEVELS and min(levels[-1].shape[:2]) >= 4:
        height, width = levels[-1].shape[:2]
        levels.append(
            cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        )
    pads = ((PADDING, PADDING), (PADDING, PADDING), (0, 0))[: image.ndim]
    padded = [np.pad(level, pads, mode="wrap") for level in levels]
    below = sum(level.shape[0] for level in padded[1:])
    canvas_shape = (
        max(padded[0].shape[0], below),
        padded[0].shape[1] + padded[1].shape[1],
        *image.shape[2:],
    )
    canvas = np.zeros(canvas_shape, np.uint8)
    corners = []
    x, y = 0, 0
    for index, level in enumerate(padded):
        canvas[y : y + level.shape[0], x : x + level.shape[1]] = level
        corners.append((x + PADDING, y + PADDING))
        x, y = (level.shape[1], 0) if index == 0 else (x, y + level.shape[0])
    sizes = [(level.shape[1], level.shape[0]) for level in levels]
    return MipAtlas(canvas, np.array(corners, np.float32), np.array(sizes, np.float32))


def sample_atlas(atlas: MipAtlas, uv_N2: F32, along_x_N2: F32, along_y_N2: F32, taps: int) -> F32:
    """Look up filtered colours.

    Args:
        atlas: the texture.
        uv_N2: texture coordinates; the texture repeats with period 1.
        along_x_N2: derivative of uv over the width of a sample.
        along_y_N2: derivative of uv over the height of a sample.
        taps: number of trilinear look-ups along the longer side of the sample's footprint.

    Returns:
        [N, C] or [N], 0..1.
    """
    texels = atlas.size_L2[0]
    length_x = _length(along_x_N2 * texels)
    length_y = _length(along_y_N2 * texels)
    minor, major = np.minimum(length_x, length_y), np.maximum(length_x, length_y)
    footprint = np.maximum(np.maximum(minor, major / taps), 1e-6)
    level = np.clip(np.log2(footprint) - SHARPNESS, 0, len(atlas.size_L2) - 1.001)
    lower = level.astype(np.intp)
    fraction = (level - lower).astype(np.float32)
    longer = np.where((length_x > length_y)[:, None], along_x_N2, along_y_N2)
    transforms = [_level_transform(atlas, lower + k) for k in (0, 1)]
    total: F32 | None = None
    for tap in range(taps):
        at = uv_N2 + np.float32((tap + 0.5) / taps - 0.5) * longer
        at -= np.floor(at)
        u, v = at[:, 0], at[:, 1]
        near, far = (
            read_pixels(atlas.image, x0 + u * width, y0 + v * height)
            for x0, y0, width, height in transforms
        )
        far -= near
        far *= fraction if near.ndim == 1 else fraction[:, None]
        near += far
        total = near if total is None else total + near
    assert total is not None
    return total * np.float32(1 / (255 * taps))


def _length(vectors_N2: F32) -> F32:
    return np.sqrt(vectors_N2[:, 0] ** 2 + vectors_N2[:, 1] ** 2)


def _level_transform(atlas: MipAtlas, level_N: NDArray[np.intp]) -> tuple[F32, F32, F32, F32]:
    """Offsets x, y and sizes that map (u, v) to pixels of the atlas."""
    corner = atlas.corner_L2 - np.float32(0.5)
    x, y = corner[:, 0].take(level_N), corner[:, 1].take(level_N)
    return x, y, atlas.size_L2[:, 0].take(level_N), atlas.size_L2[:, 1].take(level_N)


def read_pixels(image: U8, x_N: F32, y_N: F32) -> F32:
    """Bilinear interpolation of ``image`` at pixel positions: [N, C] or [N]."""
    columns = 2048
    count = len(x_N)
    rows = -(-count // columns)
    map_x = np.zeros(rows * columns, np.float32)
    map_y = np.zeros(rows * columns, np.float32)
    map_x[:count], map_y[:count] = x_N, y_N
    values = cv2.remap(
        image,
        map_x.reshape(rows, columns),
        map_y.reshape(rows, columns),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return values.reshape(rows * columns, *image.shape[2:])[:count].astype(np.float32)
