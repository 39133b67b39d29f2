"""Dense KAZE of Alcantarilla, Bartoli and Davison (ECCV 2012): upright M-SURF, 64 numbers.

The size was chosen on two real KITTI pairs: from 5 to 8 px PCK@10 changes by 0.5 points, and the
level of the nonlinear scale space hardly matters.
"""

import cv2
import numpy as np

from ucn.evaluation.methods.baselines.upright import describe_keypoints
from ucn.matching.descriptors import Floats, Pixels, unit_rows

KEYPOINT_SIZE = 6.0
"""Diameter of the keypoints, pixels; a descriptor gathers derivatives from six times as far."""
LEVEL = 1
"""Of the scale space. OpenCV describes no point of level 0, whose derivatives it leaves zero."""
MARGIN = 64
"""Pixels that the image is extended by, so that the diffusion has calmed at its border."""


def describe_kaze(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by upright KAZE [N, 64]; zeros where there is no structure."""
    kaze = cv2.xfeatures2d.KAZE.create(extended=False, upright=True, nOctaves=1, nOctaveLayers=4)
    rows_N64 = describe_keypoints(
        image, points_N2, kaze, size=KEYPOINT_SIZE, level=LEVEL, margin=MARGIN
    )
    # OpenCV divides by the length of rows of zeros.
    return unit_rows(np.nan_to_num(rows_N64, nan=0.0))
