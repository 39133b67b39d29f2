"""Dense matches of two posed views with depth maps, checked for consistency in both directions."""

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import inside_image, invert_rigid, project_points, transform_points
from ucn.preprocessing.sample import Candidates

Depths = NDArray[np.float32]
"""Depth map [H, W] along the optical axis; unknown where not positive and finite."""

# Largest relative depth difference within one surface.
_TOLERANCE = 0.01


def match_depths(
    depths: tuple[Depths, Depths], intrinsics: tuple[Floats, Floats], T_1_0: Floats, step: int
) -> Candidates:
    """Matches pixels of image 0 by their depth, with a check against image 1 in both directions.

    A point is kept if the four pixels around it in image 1 all have its depth to 1 %. The nearest
    of them is also projected back, and the four pixels around it in image 0 must have its depth.
    This rejects occluded points and depth discontinuities.

    Args:
        depths: depth maps of the two images, in one unit.
        intrinsics: K of the two cameras.
        T_1_0: 4x4 transform from camera 0 to camera 1, in the depths' unit.
        step: stride of the matched pixels, in x and in y.

    Returns:
        Matches with attributes ``depth0`` and ``depth1``.
    """
    depth0_HW, depth1_HW = depths
    K0, K1 = intrinsics
    rows_N, columns_N = (
        grid.ravel()
        for grid in np.mgrid[
            step // 2 : depth0_HW.shape[0] : step, step // 2 : depth0_HW.shape[1] : step
        ]
    )
    known_N = _known(depth0_HW[rows_N, columns_N])
    pixels0_N2 = np.stack([columns_N, rows_N], axis=1)[known_N].astype(np.float64)
    depth0_N = depth0_HW[rows_N, columns_N][known_N].astype(np.float64)
    points1_N3 = transform_points(T_1_0, _behind(K0, pixels0_N2, depth0_N))
    front_N = points1_N3[:, 2] > 0
    pixels1_N2 = project_points(K1, points1_N3)
    inside_N = front_N & inside_image(pixels1_N2, depth1_HW.shape[::-1])
    seen_N = np.flatnonzero(inside_N)
    agrees_S = _has_depths(depth1_HW, pixels1_N2[seen_N], points1_N3[seen_N, 2])
    same_N = seen_N[agrees_S]
    # Check in the other direction, with the depths of image 1.
    nearest_S2 = np.rint(pixels1_N2[same_N])
    own_S = _at(depth1_HW, nearest_S2)
    points0_S3 = transform_points(invert_rigid(T_1_0), _behind(K1, nearest_S2, own_S))
    returns_S = points0_S3[:, 2] > 0
    returns_S[returns_S] = _has_depths(
        depth0_HW, project_points(K0, points0_S3[returns_S]), points0_S3[returns_S, 2]
    )
    kept_N = same_N[returns_S]
    return Candidates(
        np.hstack([pixels0_N2, pixels1_N2])[kept_N],
        {"depth0": depth0_N[kept_N], "depth1": points1_N3[kept_N, 2]},
        {
            "unknown depth": int((~known_N).sum()),
            "outside image 1": int((~inside_N).sum()),
            "other depth in image 1": int((~agrees_S).sum()),
            "other depth in image 0": int((~returns_S).sum()),
        },
    )


def _has_depths(depth_HW: Depths, pixels_N2: Floats, depth_N: Floats) -> Bools:
    """Whether all four pixels around each position have its depth; fewer pixels at the border."""
    has_N = np.ones(len(pixels_N2), bool)
    for round_x in (np.floor, np.ceil):
        for round_y in (np.floor, np.ceil):
            corners_N2 = np.stack([round_x(pixels_N2[:, 0]), round_y(pixels_N2[:, 1])], axis=1)
            found_N = _at(depth_HW, corners_N2)
            has_N &= _known(found_N) & (np.abs(found_N - depth_N) <= _TOLERANCE * depth_N)
    return has_N


def _at(depth_HW: Depths, pixels_N2: Floats) -> Floats:
    """Depths at whole pixels, clamped to the border."""
    height, width = depth_HW.shape
    columns_N = np.clip(pixels_N2[:, 0], 0, width - 1).astype(np.intp)
    rows_N = np.clip(pixels_N2[:, 1], 0, height - 1).astype(np.intp)
    return depth_HW[rows_N, columns_N].astype(np.float64)


def _known(depth_N: NDArray[np.floating]) -> Bools:
    known_N: Bools = np.isfinite(depth_N) & (depth_N > 0)
    return known_N


def _behind(K: Floats, pixels_N2: Floats, depth_N: Floats) -> Floats:
    """Back-projects pixels with depths to points [N, 3]."""
    homogeneous_N3 = np.hstack([pixels_N2, np.ones((len(pixels_N2), 1))])
    points_N3: Floats = homogeneous_N3 @ np.linalg.inv(K).T * depth_N[:, None]
    return points_N3
