"""Dense SIFT (Lowe, IJCV 2004): upright, of one size, at any number of points.

A histogram of SIFT is a sum over a window whose weights are a product of a function of x and one of
y. So the same bin of all pixels is one separable filter of a map of gradients.
"""

import math
from collections.abc import Iterator
from typing import ClassVar

import cv2
import numpy as np

from ucn.evaluation.methods.baselines.base import PointDescriber
from ucn.evaluation.methods.baselines.opencv_descriptors import extend_border
from ucn.evaluation.methods.baselines.sampling import bilinear_weights
from ucn.matching.descriptors import Floats, Pixels

CELL = 7.5
"""Side of a spatial bin, pixels: three times the scale of a keypoint of 5 px."""
BLUR = (1.6**2 - 0.5**2) ** 0.5
"""From the assumed blur of a photo to that of SIFT's first level, pixels."""
CELLS, ORIENTATIONS = 4, 8
MARGIN = 32
"""Padding of the image, pixels; descriptors reach 19 px, and their gradients 7 px farther."""

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
    height, width = image.shape[:2]
    weights_NP = bilinear_weights(points_N2, height, width)
    rows_DN = np.empty((CELLS * CELLS * ORIENTATIONS, len(points_N2)), np.float32)
    for row, bin_HW in _bins(image):
        rows_DN[row] = weights_NP @ bin_HW.ravel()
    # Lowe's limit on large gradients.
    np.minimum(rows_DN, 0.2 * np.linalg.norm(rows_DN, axis=0), out=rows_DN)
    rows_DN /= np.maximum(rows_DN.sum(axis=0), 1e-12)
    return np.ascontiguousarray(np.sqrt(rows_DN, out=rows_DN).T)


def _bins(image: Pixels) -> Iterator[tuple[int, Floats]]:
    """Every bin of the descriptors of all pixels, with its row in OpenCV's order."""
    height, width = image.shape[:2]
    kernels = [_cell_weights(cell) for cell in range(CELLS)]
    for orientation, map_HW in enumerate(_orientation_maps(extend_border(image, MARGIN))):
        for column, (kernel_x, dx) in enumerate(kernels):
            summed_HW = cv2.sepFilter2D(map_HW, cv2.CV_32F, kernel_x, _ONE)
            for row, (kernel_y, dy) in enumerate(kernels):
                bin_HW = cv2.sepFilter2D(summed_HW, cv2.CV_32F, _ONE, kernel_y)
                left, top = MARGIN + dx, MARGIN + dy
                yield (
                    (row * CELLS + column) * ORIENTATIONS + orientation,
                    np.asarray(bin_HW[top : top + height, left : left + width], np.float32),
                )


def _cell_weights(cell: int) -> tuple[Floats, int]:
    """Weights of the pixels of a spatial bin, and the offset of their centre from the point.

    The weights are bilinear among the bins, times the Gaussian window of the descriptor.
    """
    centre = (cell - (CELLS - 1) / 2) * CELL
    middle, reach = round(centre), math.ceil(CELL)
    offsets = middle + np.arange(-reach, reach + 1)
    bilinear = np.maximum(0, 1 - np.abs(offsets - centre) / CELL)
    window = np.exp(-((offsets / (CELL * CELLS / 2)) ** 2) / 2)
    return (bilinear * window).astype(np.float32), middle


def _orientation_maps(grey: Pixels) -> Iterator[Floats]:
    """Length of the gradient, shared out among the two nearest of eight orientations."""
    blurred_HW = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), BLUR)
    dx_HW = cv2.filter2D(blurred_HW, -1, np.array([[-1, 0, 1]], np.float32))
    dy_HW = cv2.filter2D(blurred_HW, -1, np.array([[1], [0], [-1]], np.float32))  # up
    length_HW, angle_HW = cv2.cartToPolar(dx_HW, dy_HW)
    bin_HW = angle_HW * np.float32(ORIENTATIONS / (2 * np.pi))
    for orientation in range(ORIENTATIONS):
        away_HW = np.abs(
            (bin_HW - orientation + ORIENTATIONS / 2) % ORIENTATIONS - ORIENTATIONS / 2
        )
        yield length_HW * np.maximum(0, 1 - away_HW)
