"""Sun, sky, and shadows of static objects on the ground."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.preprocessing.sources.synthetic.materials.textures import (
    F32,
    F64,
    U8,
    MipAtlas,
    mip_atlas,
    spectral_noise,
)
from ucn.preprocessing.sources.synthetic.scene.surfaces import NO_MASK, Surfaces

GAMMA = 2.2
CELL_METRES = 0.1
SKY_TOP_DEGREES = 60.0
SKY_BOTTOM_DEGREES = -4.0


@dataclass(frozen=True)
class Light:
    """Sunlight and skylight. A sunlit horizontal surface has brightness 1.

    ``towards_sun_3`` is a unit vector in the map frame. ``direct`` is the sun's share of the light.
    """

    towards_sun_3: F64
    direct: float
    haze_3: F32
    haze_metres: float

    def shading(self, normals_N3: F64) -> F32:
        """Gamma-coded brightness [N] of diffuse surfaces."""
        cosine = np.clip((normals_N3 * self.towards_sun_3).sum(axis=1), 0, None)
        sky = 0.55 + 0.45 * normals_N3[:, 2]
        sun = self.direct * cosine / self.towards_sun_3[2]
        return np.asarray(
            np.clip((1 - self.direct) * (0.25 + 0.75 * sky) + sun, 0.03, 1.7).astype(np.float32)
            ** np.float32(1 / GAMMA)
        )

    @property
    def shadow(self) -> np.float32:
        """Gamma-coded brightness of the ground in full shadow."""
        return np.float32((0.75 * (1 - self.direct)) ** (1 / GAMMA))


@dataclass(frozen=True)
class ShadowMap:
    """Shadows on the ground, as a texture over a rectangle of the map; 1 outside shadows."""

    atlas: MipAtlas
    corner_2: F64
    extent_2: F64


def make_light(rng: np.random.Generator) -> Light:
    """Make the light of a sunny, hazy or overcast day."""
    azimuth, elevation = rng.uniform(-np.pi, np.pi), np.radians(rng.uniform(22, 48))
    sun = np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
    direct = float(rng.choice([0.15, 0.6, 0.75, 0.84]))
    haze = np.array([0.8, 0.84, 0.9]) * rng.uniform(0.9, 1.1)
    return Light(sun, direct, np.clip(haze, 0, 1).astype(np.float32), float(rng.uniform(250, 700)))


def paint_sky(rng: np.random.Generator, light: Light) -> U8:
    """Paint sky and skyline, uint8 [256, 2048, 3]. Columns are azimuth, rows are elevation."""
    height, width = 256, 2048
    elevation = np.linspace(SKY_TOP_DEGREES, SKY_BOTTOM_DEGREES, height)[:, None]
    up = np.clip(elevation / 40, 0, 1)[..., None]
    zenith = np.array([0.45, 0.62, 0.88]) if light.direct > 0.3 else np.array([0.78, 0.8, 0.83])
    sky = light.haze_3 * (1 - up) * 1.12 + zenith * up
    clouds = spectral_noise(rng, height, width, 1.7)
    cover = np.clip(clouds * 0.6 + rng.uniform(-0.3, 0.6), 0, 1)[..., None]
    sky = sky * (1 - cover) + np.array([0.97, 0.97, 0.98]) * cover
    column = np.arange(width) / width * 2 * np.pi
    skyline = np.full(width, 1.2)
    for harmonic in range(2, 60):
        skyline += rng.normal(0, 1.6 / harmonic) * np.cos(harmonic * column + rng.uniform(0, 7))
    skyline = np.clip(skyline, 0.5, 5)
    blocks = np.repeat(np.clip(rng.normal(-0.5, 2.0, 128), 0, 4.5), width // 128)
    trees = spectral_noise(rng, height, width, 1.0)
    woods = elevation < np.maximum(skyline, 0)[None, :] + 0.25 * trees
    town = elevation < blocks[None, :]
    far = np.array([0.42, 0.5, 0.42]) * (1 + 0.16 * trees[..., None])
    bricks = np.array([0.62, 0.6, 0.58]) * (1 + 0.1 * np.sign(np.sin(column * 300))[None, :, None])
    sky = np.where(town[..., None], bricks + 0 * sky, sky)
    sky = np.where(woods[..., None], far, sky)
    return np.asarray((np.clip(sky, 0, 1) * 255).astype(np.uint8))


def cast_shadows(
    surfaces: Surfaces,
    masks: list[NDArray[np.bool_]],
    light: Light,
    corner_2: F64,
    extent_2: F64,
) -> ShadowMap:
    """Render the shadows of static surfaces on the ground.

    Shadows are blurred, because the sun is not a point.
    """
    cells = (2 * np.ceil(np.minimum(extent_2 / CELL_METRES, 4096) / 2)).astype(int)
    scale = cells / extent_2
    canvas = np.zeros((cells[1], cells[0]), np.uint8)
    corners = drop_shadow(surfaces.corners_N43, light)
    pixels = (corners - corner_2) * scale
    for index in range(len(surfaces)):
        polygon = pixels[index]
        low, high = (
            np.floor(polygon.min(axis=0)).astype(int),
            np.ceil(polygon.max(axis=0)).astype(int),
        )
        if (high < 0).any() or (low >= cells).any():
            continue
        if surfaces.mask_N[index] == NO_MASK:
            cv2.fillPoly(canvas, [np.round(polygon * 16).astype(np.int32)], 255, shift=4)
        else:
            _stamp(canvas, masks[surfaces.mask_N[index]], polygon, low, high)
    soft = cv2.GaussianBlur(canvas, (0, 0), 0.7)
    return ShadowMap(mip_atlas(255 - soft), corner_2, extent_2)


def drop_shadow(points_N3: F64, light: Light) -> F64:
    """Positions [..., 2] of the shadows of points [..., 3] on the ground."""
    sun = light.towards_sun_3
    dropped: F64 = points_N3[..., :2] - points_N3[..., 2:] * (sun[:2] / sun[2])
    return dropped


def _stamp(
    canvas: U8,
    mask: NDArray[np.bool_],
    polygon_42: F64,
    low_2: NDArray[np.int64],
    high_2: NDArray[np.int64],
) -> None:
    """Draw the shadow of a surface with a mask, warped to the shadow's parallelogram."""
    height, width = canvas.shape
    x0, y0 = np.maximum(low_2, 0)
    x1, y1 = min(high_2[0] + 1, width), min(high_2[1] + 1, height)
    rows, columns = mask.shape
    source = np.array([[0, 0], [columns, 0], [0, rows]], np.float32)
    target = (polygon_42[[0, 1, 3]] - (x0, y0)).astype(np.float32)
    affine = cv2.getAffineTransform(source, target)
    stamp = cv2.warpAffine(mask.astype(np.uint8) * 255, affine, (int(x1 - x0), int(y1 - y0)))
    window = canvas[y0:y1, x0:x1]
    np.maximum(window, stamp.astype(np.uint8), out=window)
