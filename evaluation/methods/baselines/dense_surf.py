"""Dense upright SURF of Bay et al. (CVIU 2008), which most builds of OpenCV leave out."""

from functools import cache

import cv2

from ucn.errors import UserError
from ucn.evaluation.methods.baselines.upright import describe_keypoints
from ucn.matching.descriptors import Floats, Pixels, unit_rows

KEYPOINT_SIZE = 12.0
"""Diameter of the keypoints, pixels: scale 1.6 of SURF's, whose smallest filter is of 9 px at
scale 1.2."""
MARGIN = 64
"""Pixels that the image is extended by; patches reach 23 px."""


def describe_surf(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by upright SURF [N, 64].

    Raises:
        UserError: the installed OpenCV is built without SURF.
    """
    reason = why_no_surf()
    if reason:
        raise UserError(
            f"SURF: {reason}; build OpenCV with OPENCV_ENABLE_NONFREE, or leave out `surf`"
        )
    surf = cv2.xfeatures2d.SURF.create(extended=False, upright=True)
    return unit_rows(describe_keypoints(image, points_N2, surf, size=KEYPOINT_SIZE, margin=MARGIN))


@cache
def why_no_surf() -> str | None:
    """Why the installed OpenCV has no SURF, in a line; None where it has."""
    try:
        cv2.xfeatures2d.SURF.create()
    except (AttributeError, cv2.error):
        return "compiled out of this OpenCV"
    return None
