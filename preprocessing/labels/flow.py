"""Correspondences from optical flow: both ends inside their images and visible, sub-pixel."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import inside_image
from ucn.images.flow_files import Flow

Indices = NDArray[np.intp]

# Two flows that differ by more than this in x or y are not of one surface, pixels.
SURFACE_TOLERANCE = 1.0
# There and back again, a visible point misses its pixel by at most this, pixels.
ROUND_TRIP_TOLERANCE = 1.0


@dataclass(frozen=True)
class FlowMatches:
    """Correspondences of a flow field.

    Attributes:
        matches_N4: x0, y0, x1, y1; x0 and y0 are whole pixels in raster order.
        rejected: pixels of image 0 that gave no match, counted by the first reason found.
    """

    matches_N4: Floats
    rejected: dict[str, int]


def match_flow(
    flow_HW2: Flow,
    size1: tuple[int, int],
    *,
    backward_HW2: Flow | None = None,
    occluded_HW: Bools | None = None,
    invalid_HW: Bools | None = None,
) -> FlowMatches:
    """Match the pixels of image 0 that image 1 shows as well.

    Targets outside image 1 are dropped. What is hidden is told by the mask and by the way there
    and back, whichever are given; with neither, by :func:`contested`.

    Args:
        flow_HW2: from image 0 to image 1, NaN where unknown.
        size1: (width, height) of image 1.
        backward_HW2: from image 1 to image 0, of image 1's size.
        occluded_HW: pixels of image 0 that are hidden in image 1.
        invalid_HW: pixels of image 0 whose flow is wrong.
    """
    height, width = flow_HW2.shape[:2]
    x0_HW, y0_HW = np.broadcast_arrays(np.arange(width), np.arange(height)[:, None])
    x1_HW, y1_HW = x0_HW + flow_HW2[..., 0], y0_HW + flow_HW2[..., 1]
    faults = {"unknown flow": np.isnan(flow_HW2[..., 0])}
    if invalid_HW is not None:
        faults["invalid flow"] = invalid_HW
    inside_P = inside_image(np.stack([x1_HW.ravel(), y1_HW.ravel()], axis=1), size1)
    faults["outside image 1"] = ~inside_P.reshape(height, width)
    if occluded_HW is not None:
        faults["occluded"] = occluded_HW

    good_HW = np.ones((height, width), bool)
    rejected = {}
    for reason, fault_HW in faults.items():
        rejected[reason] = int(np.count_nonzero(good_HW & fault_HW))
        good_HW &= ~fault_HW
    planes = (x0_HW, y0_HW, x1_HW, y1_HW)
    matches_N4 = np.stack([plane_HW[good_HW] for plane_HW in planes], axis=1)

    if backward_HW2 is not None:
        miss_N = round_trip_miss(matches_N4, backward_HW2)
        reason, seen_N = "fails the forward-backward check", miss_N <= ROUND_TRIP_TOLERANCE
    elif occluded_HW is None:
        reason, seen_N = "contested target", ~contested(matches_N4, size1)
    else:
        return FlowMatches(matches_N4, rejected)
    seen = np.flatnonzero(seen_N)
    rejected[reason] = len(matches_N4) - len(seen)
    return FlowMatches(matches_N4.take(seen, axis=0), rejected)


def contested(matches_N4: Floats, size1: tuple[int, int]) -> Bools:
    """Which of N matches another surface claims as well: one of the two hides the other.

    Flow in one direction does not tell which is in front, so that both go. A match is contested
    when one that lands in the 3x3 pixels around its target has a flow that differs by more than
    :data:`SURFACE_TOLERANCE` in x or y. Surfaces that move apart by less go undetected: there a
    match may lie on a hidden point, at most that far from the one that hides it. A surface that
    shrinks below 2/3, grows beyond 2 or turns by more than 29 degrees contests itself in part.
    What enters from outside image 0, or has no known flow, contests nothing.

    Args:
        matches_N4: targets inside image 1.
        size1: its (width, height).
    """
    width, height = size1
    columns_N = np.clip(np.rint(matches_N4[:, 2]).astype(np.intp), 0, width - 1)
    rows_N = np.clip(np.rint(matches_N4[:, 3]).astype(np.intp), 0, height - 1)
    cell_N = rows_N * width + columns_N
    kernel = np.ones((3, 3), np.uint8)
    contested_N = np.zeros(len(matches_N4), bool)
    for axis in (0, 1):
        flow_N = (matches_N4[:, 2 + axis] - matches_N4[:, axis]).astype(np.float32)
        low_HW = np.full((height, width), np.inf, np.float32)
        high_HW = np.full((height, width), -np.inf, np.float32)
        np.minimum.at(low_HW.ravel(), cell_N, flow_N)
        np.maximum.at(high_HW.ravel(), cell_N, flow_N)
        low_N = cv2.erode(low_HW, kernel).ravel()[cell_N]
        high_N = cv2.dilate(high_HW, kernel).ravel()[cell_N]
        contested_N |= (flow_N - low_N > SURFACE_TOLERANCE) | (high_N - flow_N > SURFACE_TOLERANCE)
    return contested_N


def round_trip_miss(matches_N4: Floats, backward_HW2: Flow) -> Floats:
    """How far from its pixel each match comes back: ``|F(x) + B(x + F(x))|``, pixels.

    B is read bilinearly; the miss is NaN where a pixel that counts is unknown. A bound that
    grows with the motion, as Sundaram et al. (ECCV 2010) have for estimated flow, would let
    through labels that are off by 14 px at a motion of 100.

    Args:
        matches_N4: targets inside image 1.
        backward_HW2: from image 1 to image 0.
    """
    missing_N2 = matches_N4[:, 2:] + _sample(backward_HW2, matches_N4[:, 2:]) - matches_N4[:, :2]
    miss_N: Floats = np.hypot(missing_N2[:, 0], missing_N2[:, 1])
    return miss_N


def _sample(values_HW2: Flow, pixels_N2: Floats) -> Floats:
    """Values at sub-pixel positions, bilinear; beyond the outermost pixel centres, theirs."""
    height, width = values_HW2.shape[:2]
    values_P2 = values_HW2.reshape(-1, 2)
    inside_N2 = np.clip(pixels_N2, 0, (width - 1, height - 1))
    first_N2 = inside_N2.astype(np.intp)
    second_N2 = np.ceil(inside_N2).astype(np.intp)
    right_N2, down_N2 = np.hsplit(inside_N2 - first_N2, 2)
    (left_N, top_N), (next_N, below_N) = first_N2.T, second_N2.T

    def row(y_N: Indices) -> Floats:
        start_N2 = values_P2.take(y_N * width + left_N, axis=0)
        end_N2 = values_P2.take(y_N * width + next_N, axis=0)
        between_N2: Floats = start_N2 + right_N2 * (end_N2 - start_N2)
        return between_N2

    upper_N2 = row(top_N)
    sampled_N2: Floats = upper_N2 + down_N2 * (row(below_N) - upper_N2)
    return sampled_N2
