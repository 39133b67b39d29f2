"""Dense SIFT (Lowe, IJCV 2004): upright, of one size, at any number of points.

A histogram of SIFT is a sum over a window whose weights are a product of a function of x and one of
y. So the same bin of all pixels is one separable filter of a map of gradients. Few points are
summed up one at a time, with the same results.
"""

from typing import ClassVar

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ucn.evaluation.methods.baselines.base import PointDescriber
from ucn.evaluation.methods.baselines.sampling import (
    bilinear_weights,
    orientation_maps,
    surroundings,
)
from ucn.matching.descriptors import Floats, Pixels

CELL = 7.5
"""Side of a spatial bin, pixels: three times the scale of a keypoint of 5 px."""
BLUR = (1.6**2 - 0.5**2) ** 0.5
"""From the assumed blur of a photo to that of SIFT's first level, pixels."""
CELLS, ORIENTATIONS = 4, 8
REACH = 18
"""Largest distance of a pixel from its point in a descriptor, in x and in y, pixels."""
MARGIN = 32
"""Padding of the image, pixels. Gradients reach 7 px farther than descriptors."""
PIXELS_PER_POINT = 40
"""Number of pixels that are filtered in the time to sum up the window of one point."""

_ONE = np.ones(1, np.float32)


class Sift(PointDescriber):
    """Dense RootSIFT."""

    title: ClassVar = "dense SIFT"

    def describe(self, image: Pixels, points_N2: Floats) -> Floats:
        return describe_sift(image, points_N2)


def describe_sift(image: Pixels, points_N2: Floats) -> Floats:
    """Describes points by RootSIFT [N, 128], all with one size and orientation.

    SIFT with the Hellinger kernel (Arandjelovic and Zisserman, CVPR 2012), which gains 3 points of
    PCK@10 over plain SIFT. At whole pixels these are OpenCV's descriptors before it rounds them to
    bytes. Between pixels the histograms are interpolated; OpenCV rounds the point.
    """
    if not len(points_N2):
        return np.zeros((0, CELLS * CELLS * ORIENTATIONS), np.float32)
    grey, points_N2 = surroundings(image, points_N2, MARGIN)
    blurred_HW = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), BLUR)
    maps_OHW = orientation_maps(np.asarray(blurred_HW, np.float32), ORIENTATIONS)
    is_dense = len(points_N2) * PIXELS_PER_POINT > maps_OHW[0].size
    rows_DN = (_filtered if is_dense else _summed)(maps_OHW, points_N2)
    # Lowe's limit on large gradients.
    np.minimum(rows_DN, 0.2 * np.linalg.norm(rows_DN, axis=0), out=rows_DN)
    rows_DN /= np.maximum(rows_DN.sum(axis=0), 1e-12)
    return np.ascontiguousarray(np.sqrt(rows_DN, out=rows_DN).T)


def _filtered(maps_OHW: Floats, points_N2: Floats) -> Floats:
    """Histograms [128, N] of points, from those of all pixels."""
    height, width = (size - 2 * MARGIN for size in maps_OHW.shape[1:])
    sampled_NP = bilinear_weights(points_N2, height, width)
    rows_DN = np.empty((CELLS * CELLS * len(maps_OHW), len(points_N2)), np.float32)
    kernels = []
    for weights_K in cell_weights():
        first, *_, last = np.flatnonzero(weights_K)
        kernels.append((weights_K[first : last + 1], MARGIN + (first + last) // 2 - REACH))
    for orientation, map_HW in enumerate(maps_OHW):
        for column, (kernel_x, left) in enumerate(kernels):
            summed_HW = cv2.sepFilter2D(map_HW, -1, kernel_x, _ONE)
            for row, (kernel_y, top) in enumerate(kernels):
                bin_HW = cv2.sepFilter2D(summed_HW, -1, _ONE, kernel_y)
                place = (row * CELLS + column) * len(maps_OHW) + orientation  # as in OpenCV
                rows_DN[place] = (
                    sampled_NP @ bin_HW[top : top + height, left : left + width].ravel()
                )
    return rows_DN


def _summed(maps_OHW: Floats, points_N2: Floats) -> Floats:
    """Histograms [128, N] of points, each from its own window."""
    left_N2 = np.floor(points_N2).astype(int)
    share_2N11 = (points_N2 - left_N2).T[:, :, None, None].astype(np.float32)
    weights_CK = cell_weights()
    # Between whole pixels histograms are interpolated, hence their weights.
    kernels_2NCK = (1 - share_2N11) * np.pad(weights_CK, ((0, 0), (0, 1)))
    kernels_2NCK += share_2N11 * np.pad(weights_CK, ((0, 0), (1, 0)))
    windows = sliding_window_view(maps_OHW, (2 * REACH + 2,) * 2, axis=(1, 2))
    left_N, top_N = left_N2.T + MARGIN - REACH
    rows_ONCC: Floats = (
        kernels_2NCK[1] @ windows[:, top_N, left_N] @ kernels_2NCK[0].transpose(0, 2, 1)
    )
    return rows_ONCC.transpose(2, 3, 0, 1).reshape(-1, len(points_N2))


def cell_weights() -> Floats:
    """Weights [4, 37] of the pixels of a row in the spatial bins, around the point.

    They are bilinear among the bins, times the Gaussian window of the descriptor.
    """
    offsets_K = np.arange(-REACH, REACH + 1)
    cells_K = offsets_K / CELL + (CELLS - 1) / 2
    bilinear_CK = np.maximum(0, 1 - np.abs(cells_K - np.arange(CELLS)[:, None]))
    window_K = np.exp(-((offsets_K / (CELL * CELLS / 2)) ** 2) / 2)
    return np.asarray(bilinear_CK * window_K, np.float32)
