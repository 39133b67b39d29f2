"""Dense BRISK of Leutenegger, Chli and Siegwart (ICCV 2011), upright: 512 tests on rings.

The size was chosen on two real KITTI pairs: from 12 to 24 px PCK@10 gains 20 points, from 24 to 34
px one more while PCK@3 falls.
"""

import cv2

from ucn.evaluation.methods.baselines.upright import describe_keypoints, signed_bits
from ucn.matching.descriptors import Floats, Pixels

KEYPOINT_SIZE = 24.0
"""Diameter of the keypoints, pixels."""
BITS = 512
MARGIN = 128
"""Pixels that the image is extended by; OpenCV drops points whose rings reach over the border."""


def describe_brisk(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by upright BRISK [N, 512], +-1 / sqrt(512)."""
    brisk = cv2.xfeatures2d.BRISK.create()
    rows_N64 = describe_keypoints(image, points_N2, brisk, size=KEYPOINT_SIZE, margin=MARGIN)
    return signed_bits(rows_N64, BITS)
