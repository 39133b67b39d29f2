"""Points on labelled objects that move, from KITTI's tracklets."""

from collections.abc import Callable

import numpy as np

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import transform_points
from ucn.preprocessing.sources.kitti.boxes import inside_box
from ucn.preprocessing.sources.kitti.files import Tracklet

# An object moves when its box travels this far in the world over its life, or this far between the
# two frames, metres; labels of parked cars wander by some decimetres.
_TRAVEL = 1.0
_STEP = 0.3
_BOX_MARGIN = 0.2


class LabelledObjects:
    """The tracklets of one drive with their paths through the world.

    Args:
        tracklets: labelled objects.
        world_from_velo: pose of the Velodyne at a frame number; None where it is not known.
    """

    def __init__(
        self, tracklets: list[Tracklet], world_from_velo: Callable[[int], Floats | None]
    ) -> None:
        self.tracklets = tracklets
        self._paths = [_path(tracklet, world_from_velo) for tracklet in tracklets]

    def on_dynamic_object(self, points_velo_3N: Floats, frame0: int, frame1: int) -> Bools:
        """Which points of frame 0's scan lie on an object that moves."""
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
    """Places of the box in the world [F, 3], metres; NaN where the pose is not known."""
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
