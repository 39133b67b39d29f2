"""Dense description by OpenCV's keypoint descriptors: one size and level, upright, every point."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.evaluation.methods.baselines.border import extend_border
from ucn.matching.descriptors import Floats, Pixels


def describe_keypoints(
    image: Pixels,
    points_N2: Floats,
    extractor: cv2.Feature2D,
    *,
    size: float,
    margin: int,
    octave: int = 0,
    level: int = 0,
) -> NDArray[Any]:
    """Describe every point as a keypoint of one size, upright, by an extractor that keeps order.

    Args:
        size: diameter of the keypoints, pixels.
        margin: pixels by which the image's content is mirrored beyond its border; enough that the
            extractor drops no point.
        octave: of the pyramid that the extractor reads (ORB).
        level: of the scale space that the extractor reads (KAZE, AKAZE), given as class id.

    Returns:
        the extractor's rows as they are, [N, D].
    """
    extended, moved_N2 = extend_border(image, points_N2, margin)
    keypoints = [
        cv2.KeyPoint(float(x), float(y), size, 0.0, 0.0, octave, level) for x, y in moved_N2
    ]
    if not keypoints:  # OpenCV gives no array
        kind = np.float32 if extractor.descriptorType() == cv2.CV_32F else np.uint8
        return np.zeros((0, extractor.descriptorSize()), kind)
    _, rows_ND = extractor.compute(extended, keypoints)
    return np.asarray(rows_ND)


def signed_bits(bytes_NK: NDArray[np.uint8], bits: int) -> Floats:
    """Turn D bits a row into unit rows of +-1 / sqrt(D), whose inner product is 1 - 2 Hamming / D.

    Args:
        bits: D, the bits in use; the last byte may have spare ones.
    """
    ones_ND = np.unpackbits(bytes_NK, axis=1, count=bits)
    level = np.float32(bits**-0.5)
    return np.where(ones_ND, level, -level)
