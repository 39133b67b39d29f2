"""Random crops, mirrors and similarity warps of an image pair, exact for its correspondences."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.images.photometric import LightRanges, change_light
from ucn.training.config import AugmentationConfig

Array = NDArray[Any]
Matrix = NDArray[np.float64]

MAX_CROP_TRIALS = 10


@dataclass(frozen=True)
class Views:
    """Two crops of one size and what corresponds in them.

    Attributes:
        images: uint8 [H, W] or [H, W, 3], black where the image does not reach.
        matches_N4: float32, x0, y0, x1, y1, all inside their crop.
        valid: bool [H, W] each: which pixels are image, not padding.
    """

    images: tuple[Array, Array]
    matches_N4: NDArray[np.float32]
    valid: tuple[NDArray[np.bool_], NDArray[np.bool_]]


def augment_pair(
    image0: Array,
    image1: Array,
    matches_N4: NDArray[np.float32],
    config: AugmentationConfig,
    min_matches: int,
    rng: np.random.Generator,
) -> Views:
    """Make one training pair: mirror, warp image 1, crop both, change the light of each.

    The crops are placed around a random correspondence, each at its own place; of up to ten
    trials the first with ``min_matches`` correspondences is taken, else the richest.

    Args:
        image0, image1: uint8 [H, W] or [H, W, 3], any two sizes.
        matches_N4: at least one row.
        rng: every choice comes from it.
    """
    matches = matches_N4.astype(np.float64)
    mirrored = rng.random() < config.mirror
    shape0, shape1 = image0.shape[:2], image1.shape[:2]
    base0 = mirror_matrix(shape0[1]) if mirrored else np.eye(3)
    base1 = mirror_matrix(shape1[1]) if mirrored else np.eye(3)
    factor = (1 + config.scale) ** rng.uniform(-1, 1)
    angle = rng.uniform(-config.rotation, config.rotation)
    base1 = similarity_matrix(factor, angle, shape1) @ base1
    size = np.array([config.crop_width, config.crop_height])
    best: tuple[Matrix, Matrix, Array] | None = None
    for _ in range(MAX_CROP_TRIALS):
        anchor = matches[rng.integers(len(matches))]
        spot = rng.uniform(0.1, 0.9, 2) * (size - 1)
        moved = np.clip(spot + rng.uniform(-config.shift, config.shift, 2), 1, size - 2)
        crop0 = _crop_matrix(base0, anchor[:2], spot, shape0, size)
        crop1 = _crop_matrix(base1, anchor[2:], moved, shape1, size)
        cropped = np.concatenate(
            [apply_matrix(crop0, matches[:, :2]), apply_matrix(crop1, matches[:, 2:])], axis=1
        )
        inside = ((cropped >= 0) & (cropped <= np.tile(size - 1, 2))).all(axis=1)
        cropped = cropped[inside]
        if best is None or len(cropped) > len(best[2]):
            best = crop0, crop1, cropped
        if len(cropped) >= min_matches:
            break
    assert best is not None
    crop0, crop1, cropped = best
    view0, valid0 = warp(image0, crop0, size)
    view1, valid1 = warp(image1, crop1, size)
    light = LightRanges(config.blur, config.gamma, config.contrast, config.brightness, config.noise)
    views = (change_light(view0, light, rng), change_light(view1, light, rng))
    return Views(views, cropped.astype(np.float32), (valid0, valid1))


def apply_matrix(matrix: Matrix, points_N2: Array) -> Matrix:
    """Map pixels (x, y) by an affine 3x3 matrix."""
    return np.asarray(points_N2 @ matrix[:2, :2].T + matrix[:2, 2])


def mirror_matrix(width: int) -> Matrix:
    """Left to right: x becomes width - 1 - x."""
    return np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]], dtype=np.float64)


def similarity_matrix(factor: float, angle: float, shape: tuple[int, ...]) -> Matrix:
    """Scale by ``factor`` and turn by ``angle`` degrees about the centre of the image."""
    height, width = shape[:2]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    cosine, sine = factor * np.cos(np.radians(angle)), factor * np.sin(np.radians(angle))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = turn, centre - turn @ centre
    return matrix


def warp(image: Array, matrix: Matrix, size: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Resample an image by ``matrix`` (source pixel -> target pixel) onto a canvas.

    Shifts by whole pixels and mirrors are exact copies.

    Args:
        size: (width, height) of the canvas.

    Returns:
        the canvas, black outside the image, and bool [H, W], where it lies inside.
    """
    width, height = int(size[0]), int(size[1])
    canvas = cv2.warpAffine(image, matrix[:2], (width, height), flags=cv2.INTER_LINEAR)
    inverse: Matrix = np.linalg.inv(matrix).astype(np.float64)

    def is_inside(x: Array, y: Array) -> NDArray[np.bool_]:
        # An image spans from -0.5 to its size - 0.5.
        inside = np.True_
        for row, end in zip(inverse[:2], (image.shape[1], image.shape[0]), strict=True):
            source = row[0] * x + row[1] * y + row[2]
            inside = inside & (source >= -0.5) & (source <= end - 0.5)
        return np.asarray(inside)

    if is_inside(np.array([0, width - 1]), np.array([[0], [height - 1]])).all():
        return canvas, np.ones((height, width), dtype=bool)
    return canvas, is_inside(np.arange(width), np.arange(height)[:, None])


def _crop_matrix(
    base: Matrix, anchor: Array, spot: Array, shape: tuple[int, ...], size: Array
) -> Matrix:
    """Shift by whole pixels so that ``anchor`` falls near ``spot`` and the crop stays inside."""
    height, width = shape[:2]
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]])
    warped = apply_matrix(base, corners)
    low, high = warped.min(axis=0), warped.max(axis=0) + 1 - size
    origin = np.clip(apply_matrix(base, anchor) - spot, low, np.maximum(high, low))
    shift = np.eye(3)
    shift[:2, 2] = -np.round(origin)
    return shift @ base
