"""Keypoint detectors, for sparse matching."""

from typing import Literal

import cv2
import numpy as np

from ucn.images.read import to_grey
from ucn.matching.descriptors import Floats, Pixels

Detector = Literal["sift", "fast"]
FAST_THRESHOLD = 5
"""Difference of a corner to its ring, grey levels: low, since the strongest are chosen anyway."""


def detect(image: Pixels, detector: Detector, count: int) -> Floats:
    """Find the strongest keypoints of an image.

    Args:
        image: uint8 [H, W] or [H, W, 3] RGB.
        detector: ``sift``, extrema of differences of Gaussians (Lowe, IJCV 2004), sub-pixel; or
            ``fast``, corners on a ring of 16 pixels (Rosten and Drummond, ECCV 2006), whole pixels.
        count: at most so many.

    Returns:
        points_N2, float32 pixels (x, y), all different, the strongest first; among equally strong
        ones from the top row by row.

    Raises:
        ValueError: no such detector, or a count below one.
    """
    if count < 1:
        raise ValueError(f"cannot detect {count} keypoints; ask for at least one")
    found = _detector(detector).detect(to_grey(image), None)
    if not found:
        return np.zeros((0, 2), np.float32)
    points_N2 = np.array([keypoint.pt for keypoint in found], np.float32)
    strength_N = np.array([keypoint.response for keypoint in found], np.float32)
    order_N = np.lexsort((points_N2[:, 0], points_N2[:, 1], -strength_N))
    # A place of several orientations or sizes counts once, as its strongest.
    _, first_M = np.unique(points_N2[order_N], axis=0, return_index=True)
    chosen: Floats = points_N2[order_N[np.sort(first_M)[:count]]]
    return chosen


def _detector(name: str) -> cv2.Feature2D:
    if name == "sift":
        # Otherwise OpenCV's doubled image shifts all points by a quarter of a pixel.
        return cv2.SIFT.create(enable_precise_upscale=True)
    if name == "fast":
        return cv2.FastFeatureDetector.create(FAST_THRESHOLD)
    raise ValueError(f"no detector {name!r}; choose sift or fast")
