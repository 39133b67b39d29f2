"""Finds the points on moving objects from KITTI's tracklets."""

from collections.abc import Callable

import numpy as np

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import transform_points
from ucn.preprocessing.sources.kitti.files import Tracklet

# An object is moving if its box moves by _TRAVEL in the world over the whole tracklet, or by _STEP
# between the two frames, metres. Labels of parked cars drift by some decimetres.
_TRAVEL = 1.0
_STEP = 0.3
_BOX_MARGIN = 0.2


class LabelledObjects:
    """The tracklets of one drive and their trajectories in the world.

    Args:
        tracklets: labelled objects.
        world_from_velo: gives the pose of the Velodyne at a frame number; None if it is unknown.
    """

    def __init__(
        self, tracklets: list[Tracklet], world_from_velo: Callable[[int], Floats | None]
    ) -> None:
        self.tracklets = tracklets
        self._paths = [_path(tracklet, world_from_velo) for tracklet in tracklets]

    def on_dynamic_object(self, points_velo_3N: Floats, frame0: int, frame1: int) -> Bools:
        """Mask of the points of frame 0's scan that lie on a moving object."""
        on_object_N = np.zeros(points_velo_3N.shape[1], bool)
        for tracklet, path_F3 in zip(self.tracklets, self._paths, strict=True):
            row = frame0 - tracklet.first_frame
            if 0 <= row < len(path_F3) and _moves(
                path_F3, row, min(frame1 - tracklet.first_frame, len(path_F3) - 1)
            ):
                pose = tracklet.poses[row]
                on_object_N |= inside_box(
                    points_velo_3N, pose[:3], tracklet.size, float(pose[3]), _BOX_MARGIN
                )
        return on_object_N


def _path(tracklet: Tracklet, world_from_velo: Callable[[int], Floats | None]) -> Floats:
    """Positions [F, 3] of the box in the world, metres; NaN for unknown poses."""
    path_F3 = np.full((len(tracklet.poses), 3), np.nan)
    for row, pose in enumerate(tracklet.poses):
        T_world_velo = world_from_velo(tracklet.first_frame + row)
        if T_world_velo is not None:
            path_F3[row] = transform_points(T_world_velo, pose[None, :3])[0]
    return path_F3


def _moves(path_F3: Floats, row0: int, row1: int) -> bool:
    known_F3 = path_F3[np.isfinite(path_F3).all(1)]
    if not len(known_F3):
        return True
    travel = np.linalg.norm(known_F3 - known_F3[0], axis=1).max()
    step = np.linalg.norm(path_F3[row1] - path_F3[row0])
    return bool(travel > _TRAVEL or step > _STEP)


def inside_box(
    points_3N: Floats, bottom: Floats, size: tuple[float, float, float], yaw: float, margin: float
) -> Bools:
    """Mask of the points inside an upright box.

    Args:
        points_3N: points in a frame whose z axis points up, metres.
        bottom: centre of the bottom face of the box, metres.
        size: (height, width, length), metres. The length is along the box's x axis.
        yaw: rotation about z, radians.
        margin: margin on every side except the bottom, metres. The bottom has none because the
            road under a car does not move.
    """
    height, width, length = size
    c, s = np.cos(yaw), np.sin(yaw)
    x_N, y_N, up_N = points_3N - bottom[:, None]
    along = c * x_N + s * y_N
    across = -s * x_N + c * y_N
    inside: Bools = (
        (np.abs(along) <= length / 2 + margin)
        & (np.abs(across) <= width / 2 + margin)
        & (up_N >= 0)
        & (up_N <= height + margin)
    )
    return inside
