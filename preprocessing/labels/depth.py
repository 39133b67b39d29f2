"""Dense matches of two posed views with depth maps, where both maps agree."""

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import inside_image, invert_rigid, project_points, transform_points
from ucn.preprocessing.sample import Candidates

Depths = NDArray[np.float32]
"""[H, W], along the optical axis; unknown where not positive and finite."""

# Largest relative difference of depths of one surface.
_TOLERANCE = 0.01


def match_depths(
    depths: tuple[Depths, Depths], intrinsics: tuple[Floats, Floats], T_1_0: Floats, step: int
) -> Candidates:
    """Match pixels of image 0 by their depth, where image 1's depths agree, both ways.

    A point is kept when the four pixels of image 1 around it all have its depth to 1 %, and the
    points behind the nearest of them has, in image 0, the depth of the four pixels around it.
    So nothing that either map says is hidden is kept, nor what lies on an edge of depth.

    Args:
        depths: of the two images, in one unit.
        intrinsics: K of the two cameras.
        T_1_0: 4x4 from camera 0 to camera 1, in the depths' unit.
        step: every so many pixels each way are matched.

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
    # And back, from what image 1 itself says.
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
    """Whether the four pixels around each position all have its depth; fewer at the border."""
    has_N = np.ones(len(pixels_N2), bool)
    for round_x in (np.floor, np.ceil):
        for round_y in (np.floor, np.ceil):
            corners_N2 = np.stack([round_x(pixels_N2[:, 0]), round_y(pixels_N2[:, 1])], axis=1)
            found_N = _at(depth_HW, corners_N2)
            has_N &= _known(found_N) & (np.abs(found_N - depth_N) <= _TOLERANCE * depth_N)
    return has_N


def _at(depth_HW: Depths, pixels_N2: Floats) -> Floats:
    """Depths at whole pixels; beyond the border those of the border."""
    height, width = depth_HW.shape
    columns_N = np.clip(pixels_N2[:, 0], 0, width - 1).astype(np.intp)
    rows_N = np.clip(pixels_N2[:, 1], 0, height - 1).astype(np.intp)
    return depth_HW[rows_N, columns_N].astype(np.float64)


def _known(depth_N: NDArray[np.floating]) -> Bools:
    known_N: Bools = np.isfinite(depth_N) & (depth_N > 0)
    return known_N


def _behind(K: Floats, pixels_N2: Floats, depth_N: Floats) -> Floats:
    """Points [N, 3] at depths behind pixels."""
    homogeneous_N3 = np.hstack([pixels_N2, np.ones((len(pixels_N2), 1))])
    points_N3: Floats = homogeneous_N3 @ np.linalg.inv(K).T * depth_N[:, None]
    return points_N3
