"""Dense AKAZE of Alcantarilla, Nuevo and Bartoli (BMVC 2013): upright M-LDB, 486 bits.

The size was chosen on two real KITTI pairs: from 5 to 8 px PCK@10 falls by 1.6 points while 6 px
gives the best PCK@3, and the level of the nonlinear scale space hardly matters.
"""

import cv2

from ucn.evaluation.methods.baselines.upright import describe_keypoints, signed_bits
from ucn.matching.descriptors import Floats, Pixels

KEYPOINT_SIZE = 6.0
"""Diameter of the keypoints, pixels; a descriptor reaches five times as far."""
LEVEL = 1
"""Of the scale space, counted from 0, the image itself."""
BITS = 486
MARGIN = 64
"""Pixels that the image is extended by, so that the diffusion has calmed at its border."""


def describe_akaze(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by upright AKAZE [N, 486], +-1 / sqrt(486)."""
    akaze = cv2.xfeatures2d.AKAZE.create(
        cv2.xfeatures2d.AKAZE_DESCRIPTOR_MLDB_UPRIGHT, nOctaves=1, nOctaveLayers=4
    )
    rows_N61 = describe_keypoints(
        image, points_N2, akaze, size=KEYPOINT_SIZE, level=LEVEL, margin=MARGIN
    )
    return signed_bits(rows_N61, BITS)
