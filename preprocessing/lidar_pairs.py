"""Correspondences of two camera frames from their LiDAR scans: visible in both views and static."""

from dataclasses import dataclass

import numpy as np

from preprocessing.geometry import (
    Bools,
    Floats,
    inside_image,
    invert_rigid,
    project_points,
    transform_points,
)
from preprocessing.movers import moving_clusters
from preprocessing.visibility import Window, inverse_depth_map, judge_points

# Nearer than this a point lies on the recording car or is noise, metres.
_MIN_DEPTH = 1.0


@dataclass(frozen=True)
class CameraScan:
    """A scan as one camera at the same instant has it: only what lies inside its image.

    Attributes:
        points_N3: in the camera's frame, metres.
        pixels_N2: their projections.
        source_N: index of each in the scan it comes from.
    """

    points_N3: Floats
    pixels_N2: Floats
    source_N: np.ndarray[tuple[int], np.dtype[np.intp]]


@dataclass(frozen=True)
class LidarMatches:
    """Correspondences from scan 0.

    Attributes:
        matches_N4: float64 x0, y0, x1, y1, pixels.
        depth0_N: depth in camera 0, metres.
        depth1_N: depth in camera 1, metres.
        rejected: points of scan 0 inside image 0 that gave none, counted by reason.
    """

    matches_N4: Floats
    depth0_N: Floats
    depth1_N: Floats
    rejected: dict[str, int]


def view_scan(
    points_velo_N3: Floats, T_cam_velo: Floats, K: Floats, size: tuple[int, int]
) -> CameraScan:
    """The points of a scan that project into a camera's image of ``size`` (width, height)."""
    points_N3 = transform_points(T_cam_velo, points_velo_N3)
    source_N = np.flatnonzero(points_N3[:, 2] >= _MIN_DEPTH)
    pixels_N2 = project_points(K, points_N3[source_N])
    inside_N = inside_image(pixels_N2, size)
    source_N = source_N[inside_N]
    return CameraScan(points_N3[source_N], pixels_N2[inside_N], source_N)


def match_scans(
    scan0: CameraScan,
    scan1: CameraScan,
    T_1_0: Floats,
    K: Floats,
    size: tuple[int, int],
    window: Window,
    labelled0_N: Bools,
) -> LidarMatches:
    """Project scan 0 into both images and keep what is seen in both and does not move.

    Args:
        scan0: scan of frame 0 in camera 0.
        scan1: scan of frame 1 in camera 1.
        T_1_0: camera 0 to camera 1, metres.
        K: intrinsics of both.
        size: (width, height) of both images.
        window: neighbourhood for the visibility test.
        labelled0_N: points of scan 0 on objects known to move.
    """
    moved_N3 = transform_points(T_1_0, scan0.points_N3)
    pixels1_N2 = project_points(K, moved_N3)
    in_front_N = moved_N3[:, 2] >= _MIN_DEPTH
    inside_N = in_front_N & inside_image(pixels1_N2, size)

    map0_HW = inverse_depth_map(scan0.pixels_N2, scan0.points_N3[:, 2], size)
    hidden0_N = judge_points(map0_HW, scan0.pixels_N2, scan0.points_N3[:, 2], window).hidden

    map1_HW = inverse_depth_map(scan1.pixels_N2, scan1.points_N3[:, 2], size)
    moved_map_HW = inverse_depth_map(pixels1_N2[inside_N], moved_N3[inside_N, 2], size)
    by_scan1 = judge_points(map1_HW, pixels1_N2[inside_N], moved_N3[inside_N, 2], window)
    by_scan0 = judge_points(moved_map_HW, pixels1_N2[inside_N], moved_N3[inside_N, 2], window)

    hidden1_N, confirmed_N, uncovered_N = (np.zeros(len(moved_N3), bool) for _ in range(3))
    hidden1_N[inside_N] = by_scan1.hidden | by_scan0.hidden
    confirmed_N[inside_N] = by_scan1.confirmed
    uncovered_N[inside_N] = by_scan1.seen_through & ~by_scan0.hidden
    moving_N = moving_clusters(
        np.concatenate([moved_N3, scan1.points_N3]),
        np.concatenate(
            [uncovered_N & ~hidden0_N, _uncovered_backwards(scan1, map0_HW, T_1_0, K, size, window)]
        ),
    )[: len(moved_N3)]

    reasons = {
        "on a labelled mover": labelled0_N,
        "behind camera 1": ~in_front_N,
        "outside image 1": ~inside_N,
        "hidden in image 0": hidden0_N,
        "on a moving object": moving_N,
        "hidden in image 1": hidden1_N,
        "not at its depth in scan 1": ~confirmed_N,
    }
    kept_N, rejected = _apply(reasons, len(moved_N3))
    return LidarMatches(
        matches_N4=np.hstack([scan0.pixels_N2[kept_N], pixels1_N2[kept_N]]),
        depth0_N=scan0.points_N3[kept_N, 2],
        depth1_N=moved_N3[kept_N, 2],
        rejected=rejected,
    )


def _uncovered_backwards(
    scan1: CameraScan,
    map0_HW: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    T_1_0: Floats,
    K: Floats,
    size: tuple[int, int],
    window: Window,
) -> Bools:
    """Points of scan 1 at places that scan 0 looked through: where an object arrived."""
    points0_N3 = transform_points(invert_rigid(T_1_0), scan1.points_N3)
    pixels0_N2 = project_points(K, points0_N3)
    inside_N = (points0_N3[:, 2] >= _MIN_DEPTH) & inside_image(pixels0_N2, size)
    uncovered_N = np.zeros(len(points0_N3), bool)
    uncovered_N[inside_N] = judge_points(
        map0_HW, pixels0_N2[inside_N], points0_N3[inside_N, 2], window
    ).seen_through
    return uncovered_N


def _apply(reasons: dict[str, Bools], total: int) -> tuple[Bools, dict[str, int]]:
    """What no reason rejects, and how many each rejects that those before it left."""
    kept_N = np.ones(total, bool)
    rejected: dict[str, int] = {}
    for reason, flags_N in reasons.items():
        rejected[reason] = int((kept_N & flags_N).sum())
        kept_N &= ~flags_N
    return kept_N, rejected
