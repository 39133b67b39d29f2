"""Labelled boxes: which points they hold."""

import numpy as np

from ucn.arrays import Bools, Floats


def inside_box(
    points_3N: Floats, bottom: Floats, size: tuple[float, float, float], yaw: float, margin: float
) -> Bools:
    """Which points lie in an upright box.

    Args:
        points_3N: points in a frame whose z axis points up, metres.
        bottom: centre of the box's bottom.
        size: (height, width, length), the length along the box's x axis.
        yaw: about z, radians.
        margin: metres by which the box is grown on every side, its bottom excepted: the road
            under a car does not move.
    """
    height, width, length = size
    c, s = np.cos(yaw), np.sin(yaw)
    x_N, y_N, up_N = points_3N - bottom[:, None]
    along = c * x_N + s * y_N
    across = -s * x_N + c * y_N
    inside: Bools = (
        (np.abs(along) <= length / 2 + margin)
        & (np.abs(across) <= width / 2 + margin)
        & (up_N >= 0)
        & (up_N <= height + margin)
    )
    return inside
