"""Sampling of dense maps at points."""

import numpy as np
from scipy.sparse import csr_array

from ucn.matching.descriptors import Floats


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
