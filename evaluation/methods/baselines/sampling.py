"""Maps of gradients, and sampling of dense maps at points."""

import cv2
import numpy as np
from scipy.sparse import csr_array

from ucn.evaluation.methods.baselines.opencv_descriptors import extend_border
from ucn.matching.descriptors import Floats, Pixels


def surroundings(image: Pixels, points_N2: Floats, margin: int) -> tuple[Pixels, Floats]:
    """Cuts out the part of an image that surrounds points.

    Args:
        image: uint8 [H, W] or [H, W, 3] RGB.
        points_N2: at least one point, pixels. Points are clamped to the image.
        margin: distance from the outermost points to the border of the part, pixels.

    Returns:
        The grey part, and the points in it, moved by ``-margin`` in x and in y.
    """
    points_N2 = np.clip(points_N2, 0, np.array(image.shape[1::-1]) - 1)
    left, top = np.floor(points_N2.min(axis=0)).astype(int)
    right, bottom = np.ceil(points_N2.max(axis=0)).astype(int) + 2 * margin + 1
    part = extend_border(image, margin)[top:bottom, left:right]
    return part, points_N2 - np.array([left, top], np.float32)


def orientation_maps(image_HW: Floats, orientations: int, first: float = 0.0) -> Floats:
    """Length of the gradient [O, H, W], shared out among the two nearest orientations.

    Orientation k points ``(k + first) / O`` turns from x, counter-clockwise.
    """
    dx_HW = cv2.filter2D(image_HW, -1, np.array([[-1, 0, 1]], np.float32))
    dy_HW = cv2.filter2D(image_HW, -1, np.array([[1], [0], [-1]], np.float32))  # up
    length_HW, angle_HW = cv2.cartToPolar(dx_HW, dy_HW)
    turns_HW = angle_HW * np.float32(orientations / (2 * np.pi)) - np.float32(first)
    away_OHW = np.abs(turns_HW - np.arange(orientations, dtype=np.float32)[:, None, None])
    np.minimum(away_OHW, orientations - away_OHW, out=away_OHW)
    return np.asarray(length_HW * np.maximum(0, 1 - away_OHW), np.float32)


def bilinear_weights(points_N2: Floats, height: int, width: int) -> csr_array:
    """Matrix [N, H * W] that samples maps [H * W] or [H * W, C] at points (x, y) of pixels.

    Points are clamped to the map. Rows of whole pixels have a single weight.
    """
    x_N, y_N = np.clip(points_N2, 0, np.array([width - 1, height - 1], np.float32)).T
    left_N, top_N = np.floor(x_N), np.floor(y_N)
    along_N, down_N = x_N - left_N, y_N - top_N
    right_N, bottom_N = np.minimum(left_N + 1, width - 1), np.minimum(top_N + 1, height - 1)
    corners = (
        (left_N, top_N, (1 - along_N) * (1 - down_N)),
        (right_N, top_N, along_N * (1 - down_N)),
        (left_N, bottom_N, (1 - along_N) * down_N),
        (right_N, bottom_N, along_N * down_N),
    )
    column_4N = np.concatenate([y_N * width + x_N for x_N, y_N, _ in corners])
    weight_4N = np.concatenate([weight_N for *_, weight_N in corners])
    row_4N = np.tile(np.arange(len(points_N2)), len(corners))
    weights = csr_array((weight_4N, (row_4N, column_4N)), (len(points_N2), height * width))
    weights.eliminate_zeros()
    return weights
