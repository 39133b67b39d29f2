"""Correspondences from optical flow: visible in both images, sub-pixel in image 1."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import inside_image
from ucn.images.flow_files import Flow

Indices = NDArray[np.intp]

# Two flows that differ by more than this in x or y belong to different surfaces, pixels.
SURFACE_TOLERANCE = 1.0
# Largest forward-backward error of a visible point, pixels.
ROUND_TRIP_TOLERANCE = 1.0


@dataclass(frozen=True)
class FlowMatches:
    """Correspondences of a flow field.

    Attributes:
        matches_N4: x0, y0, x1, y1; x0 and y0 are whole pixels in raster order.
        rejected: number of pixels of image 0 without a match, by the first reason that applies.
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
    """Matches the pixels of image 0 that are visible in image 1.

    Targets outside image 1 are rejected. Occluded pixels are rejected by the occlusion mask and by
    the forward-backward check, whichever are given. Without both, :func:`contested` targets are
    rejected.

    Args:
        flow_HW2: flow from image 0 to image 1, NaN where unknown.
        size1: (width, height) of image 1.
        backward_HW2: flow from image 1 to image 0, of image 1's size.
        occluded_HW: pixels of image 0 that are occluded in image 1.
        invalid_HW: pixels of image 0 with invalid flow.
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
    """Whether another surface maps to the target of each of N matches, so one hides the other.

    A match is contested if another match within the 3x3 pixels around its target has a flow that
    differs by more than :data:`SURFACE_TOLERANCE` in x or y. Flow in one direction does not show
    which of the two surfaces is in front, so both matches are marked.

    Surfaces whose flows differ by less are not detected. A match on such a hidden point is off by
    at most the tolerance. Surfaces that shrink below 2/3, grow beyond 2 or rotate by more than 29
    degrees contest parts of themselves. Surfaces that enter from outside image 0, or have unknown
    flow, contest nothing.

    Args:
        matches_N4: matches with targets inside image 1.
        size1: (width, height) of image 1.
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
    """Forward-backward error of each match: ``|F(x) + B(x + F(x))|``, pixels.

    B is sampled bilinearly. The error is NaN if a sampled pixel is unknown. The threshold on it is
    constant: a bound that grows with the motion, as Sundaram et al. (ECCV 2010) use for estimated
    flow, would accept labels that are off by 14 px at a motion of 100 px.

    Args:
        matches_N4: matches with targets inside image 1.
        backward_HW2: flow from image 1 to image 0.
    """
    missing_N2 = matches_N4[:, 2:] + _sample(backward_HW2, matches_N4[:, 2:]) - matches_N4[:, :2]
    miss_N: Floats = np.hypot(missing_N2[:, 0], missing_N2[:, 1])
    return miss_N


def _sample(values_HW2: Flow, pixels_N2: Floats) -> Floats:
    """Bilinear values at sub-pixel positions, clamped at the outermost pixel centres."""
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
