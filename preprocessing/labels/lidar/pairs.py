"""Correspondences of two camera frames from their LiDAR scans: visible in both views and static.

Coordinates are stored as rows ([3, N], [2, N]) for contiguous memory access.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import invert_rigid
from ucn.preprocessing.labels.lidar.dynamic_objects import (
    SPARSE_RANGE,
    AboveGround,
    Evidence,
    Objects,
    above_ground_points,
    find_objects,
)
from ucn.preprocessing.labels.lidar.motion_check import judge_by_images
from ucn.preprocessing.labels.lidar.point_tracks import TrackedImage
from ucn.preprocessing.labels.lidar.visibility import (
    Agreement,
    Cells,
    Map,
    ScanGrid,
    SurfaceMap,
    cells_of,
    compare_with_surface,
    hidden_points,
    inverse_depth_map,
    occluder_map,
    silhouette_map,
    surface_map,
)

# Nearer points are on the recording car or noise, metres.
_MIN_DEPTH = 1.0


@dataclass(frozen=True)
class CameraModel:
    """Camera that scans are projected into: 3x3 K, (width, height), and the visibility grid."""

    K: Floats
    size: tuple[int, int]
    grid: ScanGrid


@dataclass(frozen=True)
class ProjectedPoints:
    """Projections of points into a camera.

    Attributes:
        pixels_2N: pixels; undefined where ``visible_N`` is false.
        depth_N: metres.
        visible_N: whether each point is in front of the camera and inside the image.
        cells_N: grid cell of each pixel; 0 where not visible.
        inverse_N: inverse depths; undefined where not visible.
    """

    pixels_2N: Floats
    depth_N: Floats
    visible_N: Bools
    cells_N: Cells
    inverse_N: NDArray[np.float32]

    def take(self, index_M: NDArray[np.intp]) -> "ProjectedPoints":
        """Selects some of the points."""
        return ProjectedPoints(
            self.pixels_2N.take(index_M, axis=1),
            self.depth_N.take(index_M),
            self.visible_N.take(index_M),
            self.cells_N.take(index_M),
            self.inverse_N.take(index_M),
        )


class CameraScan:
    """LiDAR points of one scan that project into one camera's image.

    Args:
        points_3N: points in the camera's frame, metres; all inside the image.
        view: projections of the points.
        source_N: index of each point in the original scan.
        grid: visibility grid.
    """

    def __init__(
        self,
        points_3N: Floats,
        view: ProjectedPoints,
        source_N: NDArray[np.intp],
        grid: ScanGrid,
    ) -> None:
        self.points_3N = points_3N
        self.view = view
        self.source_N = source_N
        self._grid = grid

    @cached_property
    def _map(self) -> Map:
        return inverse_depth_map(self.view.cells_N, self.view.inverse_N, self._grid)

    @cached_property
    def occluders(self) -> Map:
        return occluder_map(self._map, self._grid)

    @cached_property
    def surface(self) -> SurfaceMap:
        return surface_map(self._map, self._grid)

    @cached_property
    def hidden_N(self) -> Bools:
        """Points that the LiDAR sees but the camera, mounted beside it, does not."""
        return hidden_points(self.occluders, self.view.cells_N, self.view.inverse_N)

    @cached_property
    def above_ground(self) -> AboveGround:
        return above_ground_points(self.points_3N)


@dataclass(frozen=True)
class LidarMatches:
    """Correspondences of the points of scan 0.

    Attributes:
        matches_N4: float64 x0, y0, x1, y1, pixels.
        depth0_N: depth in camera 0, metres.
        depth1_N: depth in camera 1, metres.
        index_M: index of each match in scan 0's view.
        moving_K: indices in scan 0's view of points on moving objects.
        rejected: number of points of scan 0 without a match, by reason.
        pose_inconsistency: fraction of the road's tracks in the images that agree on another pose,
            0 to 1; 0 without evidence.
    """

    matches_N4: Floats
    depth0_N: Floats
    depth1_N: Floats
    index_M: NDArray[np.intp]
    moving_K: NDArray[np.intp]
    rejected: dict[str, int]
    pose_inconsistency: float


def view_scan(scan_N4: NDArray[np.float32], T_cam_velo: Floats, rig: CameraModel) -> CameraScan:
    """Selects the points of a scan (x, y, z, reflectance) that project into a camera's image."""
    # Most points are behind or beside the camera. Single precision, with a margin of a pixel, is
    # enough to discard them.
    P_34 = rig.K @ T_cam_velo[:3]
    rows_34 = np.hstack([P_34[:, :3], np.zeros((3, 1))]).astype(np.float32)
    offset_31 = P_34[:, 3:].astype(np.float32)
    ahead_N = np.flatnonzero(scan_N4 @ rows_34[2] > 0.9 * _MIN_DEPTH - offset_31[2])
    scan_A4 = scan_N4.take(ahead_N, axis=0)
    u_A, v_A, depth_A = rows_34 @ scan_A4.T + offset_31
    width, height = rig.size
    near_A = (u_A > -2 * depth_A) & (v_A > -2 * depth_A)
    near_A &= (u_A < (width + 1) * depth_A) & (v_A < (height + 1) * depth_A)
    source_A = np.flatnonzero(near_A)
    velo_3N = scan_A4.take(source_A, axis=0).T[:3].astype(np.float64, order="C")
    points_3N = T_cam_velo[:3, :3] @ velo_3N + T_cam_velo[:3, 3:]
    view = _view(points_3N, np.eye(4), rig)
    inside_M = np.flatnonzero(view.visible_N)
    return CameraScan(
        points_3N.take(inside_M, axis=1),
        view.take(inside_M),
        ahead_N.take(source_A.take(inside_M)),
        rig.grid,
    )


def match_scans(
    scan0: CameraScan,
    scan1: CameraScan,
    T_1_0: Floats,
    rig: CameraModel,
    labelled0_N: Bools,
    images: tuple[TrackedImage, TrackedImage] | None = None,
) -> LidarMatches:
    """Projects scan 0 into both images, and keeps static points that are visible in both.

    Args:
        scan0: scan of frame 0 in camera 0.
        scan1: scan of frame 1 in camera 1.
        T_1_0: transform from camera 0 to camera 1, metres.
        rig: camera model of both frames.
        labelled0_N: whether each point of scan 0 is on an object labelled as moving.
        images: images of the two cameras for the motion check; None skips this check.
    """
    view = _view(scan0.points_3N, T_1_0, rig)
    own_map = inverse_depth_map(view.cells_N, view.inverse_N * view.visible_N, rig.grid)
    hidden1_N = hidden_points(scan1.occluders, view.cells_N, view.inverse_N)
    hidden1_N |= hidden_points(silhouette_map(own_map, rig.grid), view.cells_N, view.inverse_N)
    found = compare_with_surface(scan1.surface, view.cells_N, view.inverse_N)
    objects = _objects(scan0, scan1, T_1_0, rig, view, found)
    moving_N = np.zeros(len(labelled0_N), bool)
    moving_N[scan0.above_ground.index_A] = objects.moving_A
    reasons = {
        "on a labelled mover": labelled0_N,
        "behind camera 1": view.depth_N < _MIN_DEPTH,
        "outside image 1": ~view.visible_N,
        "hidden in image 0": scan0.hidden_N,
        "on a moving object": moving_N,
        "hidden in image 1": hidden1_N,
        "not at its depth in scan 1": ~found.confirmed,
    }
    kept_M, rejected = _apply(reasons, len(labelled0_N))
    moving_N &= view.visible_N & ~scan0.hidden_N
    pose_inconsistency = 0.0
    if images is not None:
        labels_N = np.zeros(len(labelled0_N), np.int32)
        labels_N[scan0.above_ground.index_A] = objects.labels_A
        starts_2M, static_2M = (seen.pixels_2N.take(kept_M, axis=1) for seen in (scan0.view, view))
        depth_M = view.depth_N.take(kept_M)
        verdict = judge_by_images(
            images, labels_N.take(kept_M), starts_2M, static_2M, depth_M, rig.K
        )
        moving_N[kept_M[verdict.moves_N]] = True
        rejected["moves in the images"] = int(np.count_nonzero(verdict.moves_N))
        kept_M, pose_inconsistency = kept_M[~verdict.moves_N], verdict.pose_inconsistency
    ends = [pixels_2N.take(kept_M, axis=1) for pixels_2N in (scan0.view.pixels_2N, view.pixels_2N)]
    return LidarMatches(
        matches_N4=np.concatenate(ends).T,
        depth0_N=scan0.view.depth_N.take(kept_M),
        depth1_N=view.depth_N.take(kept_M),
        index_M=kept_M,
        moving_K=np.flatnonzero(moving_N),
        rejected=rejected,
        pose_inconsistency=pose_inconsistency,
    )


def _view(points_3N: Floats, T_cam_points: Floats, rig: CameraModel) -> ProjectedPoints:
    P_34 = rig.K @ T_cam_points[:3]
    u_3N = P_34[:, :3] @ points_3N + P_34[:, 3:]
    depth_N = u_3N[2]
    inverse_N = 1.0 / np.maximum(depth_N, _MIN_DEPTH)
    pixels_2N = u_3N[:2] * inverse_N
    (x_N, y_N), (width, height) = pixels_2N, rig.size
    visible_N = (x_N >= -0.5) & (x_N <= width - 0.5) & (y_N >= -0.5) & (y_N <= height - 0.5)
    visible_N &= depth_N >= _MIN_DEPTH
    cells_N = cells_of(pixels_2N, rig.grid)
    cells_N *= visible_N
    return ProjectedPoints(pixels_2N, depth_N, visible_N, cells_N, inverse_N.astype(np.float32))


def _objects(
    scan0: CameraScan,
    scan1: CameraScan,
    T_1_0: Floats,
    rig: CameraModel,
    view: ProjectedPoints,
    found: Agreement,
) -> Objects:
    """Objects of scan 0's above-ground points, and whether the scans show that they moved."""
    above_ground0, above_ground1 = scan0.above_ground, scan1.above_ground
    back = _view(above_ground1.points_3A, invert_rigid(T_1_0), rig)
    found_back = compare_with_surface(scan0.surface, back.cells_N, back.inverse_N)
    evidence0 = _evidence(
        T_1_0[:3, :3] @ above_ground0.points_3A + T_1_0[:3, 3:],
        above_ground0.rises_A,
        (view.visible_N & ~scan0.hidden_N).take(above_ground0.index_A),
        view.inverse_N.take(above_ground0.index_A),
        found.take(above_ground0.index_A),
    )
    evidence1 = _evidence(
        above_ground1.points_3A,
        above_ground1.rises_A,
        back.visible_N & ~scan1.hidden_N.take(above_ground1.index_A),
        back.inverse_N,
        found_back,
    )
    return find_objects(evidence0, evidence1)


def _evidence(
    points_3A: Floats,
    rises_A: Bools,
    faced_A: Bools,
    inverse_A: NDArray[np.float32],
    found: Agreement,
) -> Evidence:
    uncovered_A = found.seen_through | (found.void & (inverse_A < 1 / SPARSE_RANGE))
    compared_A = faced_A & (found.confirmed | found.seen_through)
    shift_A = np.where(compared_A, found.offset / inverse_A, np.float32(np.nan))
    return Evidence(points_3A, rises_A, faced_A, uncovered_A & faced_A, shift_A)


def _apply(reasons: dict[str, Bools], total: int) -> tuple[NDArray[np.intp], dict[str, int]]:
    """Indices of the points that no reason rejects, and the number rejected first by each."""
    kept_N = np.ones(total, bool)
    left, rejected = total, {}
    for reason, flags_N in reasons.items():
        kept_N &= ~flags_N
        rejected[reason] = left - int(np.count_nonzero(kept_N))
        left -= rejected[reason]
    return np.flatnonzero(kept_N), rejected
