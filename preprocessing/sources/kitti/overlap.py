"""Pairs frames of a drive by the overlap of their views, computed from poses alone.

The overlap is predicted on a nominal street, so that listing the pairs reads no scans. The sample
of a pair measures its overlap on the scans.
"""

from collections.abc import Sequence

import numpy as np

from ucn.arrays import Bools, Floats
from ucn.preprocessing.labels.lidar.pairs import CameraModel

# A nominal street: distance of the facades on both sides, and range of the LiDAR, metres.
_FACADE_DISTANCE = 8.0
_FARTHEST = 50.0
_COLUMNS, _ROWS = 24, 8
# Largest difference between the overlap of a pair and the wanted one.
_TOLERANCE = 0.1
# Least translation, metres, or rotation, radians, of a pair. Below both, the two images are nearly
# the same.
_TRAVEL, _TURN = 0.2, np.deg2rad(1.0)


def pair_by_overlap(
    frames: Sequence[int],
    T_world_cam_F44: Floats,
    rig: CameraModel,
    camera_height: float,
    overlaps: Sequence[float],
    max_gap: int,
) -> list[tuple[int, int]]:
    """Pair each frame with the later frame whose overlap is closest to each wanted overlap.

    Args:
        frames: ascending frame numbers.
        T_world_cam_F44: poses of the frames; NaN for unknown poses.
        rig: camera model.
        camera_height: height above the road, metres.
        overlaps: wanted overlaps, 0 to 1.
        max_gap: largest distance between the frames of a pair.

    Returns:
        Pairs of frame numbers, ascending, without duplicates.
    """
    numbers = np.asarray(frames)
    shares_GF = np.full((max_gap, len(frames)), np.nan)
    points_3M = _nominal_points(rig, camera_height)
    for gap in range(1, max_gap + 1):
        # Frame numbers may have gaps: the partner is looked up by number.
        partner_F = np.searchsorted(numbers, numbers + gap)
        found_F = partner_F < len(frames)
        found_F[found_F] = numbers[partner_F[found_F]] == numbers[found_F] + gap
        first = np.flatnonzero(found_F)
        T_1_0 = _relative(T_world_cam_F44[partner_F[first]], T_world_cam_F44[first])
        share_F = _shares(T_1_0, points_3M, rig)
        shares_GF[gap - 1, first] = np.where(_moves(T_1_0), share_F, np.nan)
    pairs = set()
    for wanted in overlaps:
        distance_GF = np.where(np.isfinite(shares_GF), np.abs(shares_GF - wanted), np.inf)
        gap_F = distance_GF.argmin(axis=0)
        near_F = np.flatnonzero(distance_GF[gap_F, np.arange(len(frames))] <= _TOLERANCE)
        pairs |= {
            (first, first + gap)
            for first, gap in zip(
                numbers[near_F].tolist(), (gap_F[near_F] + 1).tolist(), strict=True
            )
        }
    return sorted(pairs)


def _nominal_points(rig: CameraModel, camera_height: float) -> Floats:
    """Points [3, M] of the nominal street, on a regular grid of pixels."""
    width, height = rig.size
    x, y = np.meshgrid(
        (np.arange(_COLUMNS) + 0.5) * width / _COLUMNS - 0.5,
        (np.arange(_ROWS) + 0.5) * height / _ROWS - 0.5,
    )
    rays_3M = np.linalg.solve(rig.K, np.stack([x.ravel(), y.ravel(), np.ones(x.size)]))
    with np.errstate(divide="ignore"):
        road_M = np.where(rays_3M[1] > 0, camera_height / rays_3M[1], np.inf)
        facade_M = _FACADE_DISTANCE / np.abs(rays_3M[0])
    points_3M: Floats = rays_3M * np.minimum(np.minimum(road_M, facade_M), _FARTHEST)
    return points_3M


def _relative(T_world_1_F44: Floats, T_world_0_F44: Floats) -> Floats:
    R_1_F33 = T_world_1_F44[:, :3, :3].transpose(0, 2, 1)
    offset_F3 = T_world_0_F44[:, :3, 3] - T_world_1_F44[:, :3, 3]
    T_1_0_F44 = np.zeros_like(T_world_1_F44)
    T_1_0_F44[:, :3, :3] = R_1_F33 @ T_world_0_F44[:, :3, :3]
    T_1_0_F44[:, :3, 3] = np.einsum("fij,fj->fi", R_1_F33, offset_F3)
    T_1_0_F44[:, 3, 3] = 1
    return T_1_0_F44


def _moves(T_1_0_F44: Floats) -> Bools:
    cosine_F = (np.trace(T_1_0_F44[:, :3, :3], axis1=1, axis2=2) - 1) / 2
    turn_F = np.arccos(np.clip(cosine_F, -1, 1))
    return np.asarray((np.linalg.norm(T_1_0_F44[:, :3, 3], axis=1) > _TRAVEL) | (turn_F > _TURN))


def _shares(T_1_0_F44: Floats, points_3M: Floats, rig: CameraModel) -> Floats:
    """Share of the points that project into image 1. NaN for unknown poses."""
    P_F34 = rig.K @ T_1_0_F44[:, :3]
    u_FM, v_FM, z_FM = np.moveaxis(P_F34[:, :, :3] @ points_3M + P_F34[:, :, 3:], 1, 0)
    width, height = rig.size
    inside_FM = (z_FM > 0) & (u_FM >= -0.5 * z_FM) & (v_FM >= -0.5 * z_FM)
    inside_FM &= (u_FM <= (width - 0.5) * z_FM) & (v_FM <= (height - 0.5) * z_FM)
    share_F: Floats = np.where(np.isfinite(z_FM).all(1), inside_FM.mean(axis=1), np.nan)
    return share_F
