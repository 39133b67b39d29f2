"""Which points of a sparse scan a camera sees: a z-buffer over the samples of a spinning LiDAR.

A LiDAR stands beside the camera and samples the scene at some 5 x 2 pixels, so that between the
samples of a near surface points of what lies behind shine through. A sample is judged by the
samples around it. Inverse depth is what is compared: over any plane it is linear in the image, so
that on one surface a nearer sample on one side means a farther one on the other side.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocessing.geometry import Bools, Floats

# Two samples belong to one surface when their depths agree to this part (plus the slope of a road).
DEPTH_TOLERANCE = 0.05
# A sample this much nearer right beside a point puts the point in doubt: it may lie within the
# silhouette of the nearer surface, whose outline is known to one sample's distance only.
SILHOUETTE_TOLERANCE = 0.25
# Velodyne HDL-64E: largest vertical (its lower block) and horizontal angle between samples at
# 10 Hz, radians.
RING_STEP = np.deg2rad(0.53)
AZIMUTH_STEP = np.deg2rad(0.18)


@dataclass(frozen=True)
class Window:
    """Half sizes in pixels of the neighbourhood that surely holds samples on every side.

    Attributes:
        x: one and a half horizontal steps of the LiDAR.
        y: a bit more than one vertical step.
        y_near: half a vertical step: the nearest ring is no farther.
        road_slope: change of inverse depth a pixel on a horizontal road, ``1 / (f h)``.
    """

    x: int
    y: int
    y_near: int
    road_slope: float


@dataclass(frozen=True)
class Verdict:
    """What the samples around each of N points say of it.

    Attributes:
        hidden: a nearer surface covers the point.
        confirmed: the nearest ring has a sample beside it at the point's depth.
        seen_through: nothing is there, or only what lies behind the point.
    """

    hidden: Bools
    confirmed: Bools
    seen_through: Bools


def lidar_window(focal: float, camera_height: float) -> Window:
    """The window for a camera of ``focal`` pixels, ``camera_height`` metres above the road."""
    return Window(
        x=int(np.ceil(1.5 * focal * AZIMUTH_STEP)),
        y=int(np.ceil(1.1 * focal * RING_STEP)),
        y_near=int(np.ceil(0.55 * focal * RING_STEP)),
        road_slope=1.0 / (focal * camera_height),
    )


def inverse_depth_map(
    pixels_N2: Floats, depths_N: Floats, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Z-buffer: the nearest sample of each pixel as inverse depth [H, W]; 0 where there is none.

    Args:
        pixels_N2: positions inside the image.
        depths_N: positive depths.
        size: (width, height).
    """
    width, height = size
    columns, rows = _nearest_pixels(pixels_N2, size)
    map_HW = np.zeros(height * width, np.float32)
    np.maximum.at(map_HW, rows * width + columns, (1.0 / depths_N).astype(np.float32))
    return map_HW.reshape(height, width)


def judge_points(
    map_HW: NDArray[np.float32], pixels_N2: Floats, depths_N: Floats, window: Window
) -> Verdict:
    """Compare points with the samples of a z-buffer around them.

    Args:
        map_HW: from :func:`inverse_depth_map`.
        pixels_N2: positions of the points inside the image.
        depths_N: their positive depths.
        window: from :func:`lidar_window`.
    """
    height, width = map_HW.shape
    dy_K, dx_K = (
        offsets.ravel() for offsets in np.mgrid[-window.y : window.y + 1, -window.x : window.x + 1]
    )
    padded_HW = np.pad(map_HW, ((window.y,) * 2, (window.x,) * 2))
    columns_N, rows_N = _nearest_pixels(pixels_N2, (width, height))
    origin_N = (rows_N + window.y) * padded_HW.shape[1] + columns_N + window.x
    samples_NK = padded_HW.ravel()[origin_N[:, None] + (dy_K * padded_HW.shape[1] + dx_K)]

    point_N1 = (1.0 / depths_N).astype(np.float32)[:, None]
    slope_K = (np.abs(dy_K) * window.road_slope).astype(np.float32)
    near_K = np.abs(dy_K) <= window.y_near

    nearer_NK = samples_NK > point_N1 * (1 + DEPTH_TOLERANCE) + slope_K
    covered_N = _on_opposite_sides(nearer_NK, dx_K, dy_K)
    beside_NK = samples_NK > point_N1 * (1 + SILHOUETTE_TOLERANCE) + slope_K
    beside_N = beside_NK[:, near_K].any(1)

    confirmed_N, only_behind_N = _judge_nearest_ring(samples_NK, point_N1, slope_K, dy_K, window)
    empty_N = ~(samples_NK > 0).any(1)
    return Verdict(
        hidden=covered_N | beside_N,
        confirmed=confirmed_N,
        seen_through=empty_N | only_behind_N,
    )


def _judge_nearest_ring(
    samples_NK: NDArray[np.float32],
    point_N1: NDArray[np.float32],
    slope_K: NDArray[np.float32],
    dy_K: NDArray[np.intp],
    window: Window,
) -> tuple[Bools, Bools]:
    """Which points the nearest ring sees at their depth, and which it sees only behind them.

    The slope of a road must be granted to a ring above or below; the nearer the ring, the less.
    """
    confirmed_N, only_behind_N = (np.zeros(len(samples_NK), bool) for _ in range(2))
    undecided_N = np.ones(len(samples_NK), bool)
    for distance in range(window.y_near + 1):
        ring_K = np.abs(dy_K) == distance
        ring_NK = samples_NK[:, ring_K]
        tolerance_NK = point_N1 * DEPTH_TOLERANCE + slope_K[ring_K]
        found_N = (ring_NK > 0).any(1)
        agrees_N = (np.abs(ring_NK - point_N1) <= tolerance_NK).any(1)
        behind_N = ~(ring_NK >= point_N1 - tolerance_NK).any(1)
        confirmed_N |= undecided_N & agrees_N
        only_behind_N |= undecided_N & found_N & behind_N
        undecided_N &= ~found_N
    return confirmed_N, only_behind_N


def _nearest_pixels(
    pixels_N2: Floats, size: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    columns = np.clip(np.rint(pixels_N2[:, 0]).astype(np.intp), 0, size[0] - 1)
    rows = np.clip(np.rint(pixels_N2[:, 1]).astype(np.intp), 0, size[1] - 1)
    return columns, rows


def _on_opposite_sides(flags_NK: Bools, dx_K: NDArray[np.intp], dy_K: NDArray[np.intp]) -> Bools:
    """Points with a flagged sample in two diagonally opposite quadrants."""

    def any_in(sign_x: int, sign_y: int) -> Bools:
        inside_K = (dx_K * sign_x >= 0) & (dy_K * sign_y >= 0) & ((dx_K != 0) | (dy_K != 0))
        return np.asarray(flags_NK[:, inside_K].any(axis=1))

    rising_N = any_in(-1, -1) & any_in(1, 1)
    falling_N = any_in(-1, 1) & any_in(1, -1)
    return np.asarray(rising_N | falling_N)
