"""Points of an image to describe or match: keypoints of detectors, and grids."""

from typing import Literal

import cv2
import numpy as np

from ucn.images.read import to_grey
from ucn.matching.descriptors import Floats, Pixels

Detector = Literal["sift", "fast"]
FAST_THRESHOLD = 5
"""Least contrast of a FAST corner, grey levels. Low, since only the strongest are kept."""


def detect(image: Pixels, detector: Detector, count: int) -> Floats:
    """Detects the strongest keypoints of an image.

    Args:
        image: uint8 [H, W] or [H, W, 3] RGB.
        detector: ``sift`` (Lowe, IJCV 2004), sub-pixel extrema of differences of Gaussians; or
            ``fast`` (Rosten and Drummond, ECCV 2006), corners at whole pixels.
        count: largest number of keypoints.

    Returns:
        points_N2, float32 pixels (x, y), without duplicates, the strongest first. Keypoints of
        equal strength are in raster order.

    Raises:
        ValueError: the detector is unknown, or the count is below one.
    """
    if count < 1:
        raise ValueError(f"cannot detect {count} keypoints; ask for at least one")
    found = _detector(detector).detect(to_grey(image), None)
    if not found:
        return np.zeros((0, 2), np.float32)
    points_N2 = np.array([keypoint.pt for keypoint in found], np.float32)
    strength_N = np.array([keypoint.response for keypoint in found], np.float32)
    order_N = np.lexsort((points_N2[:, 0], points_N2[:, 1], -strength_N))
    # Keypoints at one position (several orientations or sizes) count once, as the strongest.
    _, first_M = np.unique(points_N2[order_N], axis=0, return_index=True)
    chosen: Floats = points_N2[order_N[np.sort(first_M)[:count]]]
    return chosen


def grid_points(width: int, height: int, step: int) -> Floats:
    """Every step-th pixel (x, y) of an image row by row, from (0, 0): float32 [M, 2]."""
    y, x = np.mgrid[0:height:step, 0:width:step]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def _detector(name: str) -> cv2.Feature2D:
    if name == "sift":
        # Without precise upscaling OpenCV shifts all points by a quarter of a pixel.
        return cv2.SIFT.create(enable_precise_upscale=True)
    if name == "fast":
        return cv2.FastFeatureDetector.create(FAST_THRESHOLD)
    raise ValueError(f"no detector {name!r}; choose sift or fast")
