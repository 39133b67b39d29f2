"""Dense ORB of Rublee et al. (ICCV 2011), upright: 256 learnt tests of blurred pixels.

The octave was chosen on two real KITTI pairs: from 0 to 3 PCK@10 gains 12 points, from 3 to 5 one
more while PCK@1 and PCK@3 fall.
"""

import cv2

from ucn.evaluation.methods.baselines.upright import describe_keypoints, signed_bits
from ucn.matching.descriptors import Floats, Pixels

PATCH = 31
"""Side of the patch at the octave, pixels; the learnt tests are of this size."""
OCTAVE = 3
"""Of a pyramid of factor 1.2: the patch covers 54 px of the image."""
BITS = 256
MARGIN = 96
"""Pixels that the image is extended by; OpenCV drops points whose patch reaches over the border."""


def describe_orb(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by upright ORB [N, 256], +-1 / sqrt(256).

    OpenCV rounds the points to whole pixels of the octave, 1.7 px of the image.
    """
    orb = cv2.ORB.create(scaleFactor=1.2, nlevels=OCTAVE + 1, patchSize=PATCH)
    rows_N32 = describe_keypoints(
        image, points_N2, orb, size=float(PATCH), octave=OCTAVE, margin=MARGIN
    )
    return signed_bits(rows_N32, BITS)
