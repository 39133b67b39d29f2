"""Finds the points on moving objects from KITTI's tracklets."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import transform_points
from ucn.preprocessing.sources.kitti.files import Tracklet

# An object is moving if its box moves by _TRAVEL in the world over the whole tracklet, or by _STEP
# between the two frames, metres. Labels of parked cars drift by some decimetres.
_TRAVEL = 1.0
_STEP = 0.3
_BOX_MARGIN = 0.2


@dataclass(frozen=True)
class LabelledObject:
    """A tracklet and its trajectory in the world.

    Attributes:
        tracklet: the box in consecutive frames.
        path_F3: positions of the box in the world, metres; NaN for unknown poses.
        travels: whether it moves over the whole tracklet.
    """

    tracklet: Tracklet
    path_F3: Floats
    travels: bool


def labelled_objects(
    tracklets: Iterable[Tracklet], world_from_velo: Callable[[int], Floats | None]
) -> tuple[LabelledObject, ...]:
    """Places tracklets in the world.

    Args:
        tracklets: labelled objects.
        world_from_velo: gives the pose of the Velodyne at a frame number; None if it is unknown.
    """
    objects = []
    for tracklet in tracklets:
        path_F3 = np.full((len(tracklet.poses), 3), np.nan)
        for row, pose in enumerate(tracklet.poses):
            T_world_velo = world_from_velo(tracklet.first_frame + row)
            if T_world_velo is not None:
                path_F3[row] = transform_points(T_world_velo, pose[None, :3])[0]
        objects.append(LabelledObject(tracklet, path_F3, _travels(path_F3)))
    return tuple(objects)


def cut_objects(
    objects: Iterable[LabelledObject], frames: Sequence[int]
) -> tuple[LabelledObject, ...]:
    """The objects between the first and the last of ascending frames, cut to these frames."""
    kept = []
    for one in objects if frames else ():
        start, stop = (
            max(frame - one.tracklet.first_frame, 0) for frame in (frames[0], frames[-1] + 1)
        )
        path_F3 = one.path_F3[start:stop]
        if len(path_F3):
            tracklet = replace(
                one.tracklet,
                first_frame=one.tracklet.first_frame + start,
                poses=one.tracklet.poses[start:stop],
            )
            kept.append(replace(one, tracklet=tracklet, path_F3=path_F3))
    return tuple(kept)


def on_moving_object(
    objects: Iterable[LabelledObject], points_velo_3N: Floats, frame0: int, frame1: int
) -> Bools:
    """Mask of the points of frame 0's scan that lie on a moving object."""
    on_object_N = np.zeros(points_velo_3N.shape[1], bool)
    for one in objects:
        tracklet = one.tracklet
        row = frame0 - tracklet.first_frame
        last = min(frame1 - tracklet.first_frame, len(tracklet.poses) - 1)
        if not 0 <= row < len(tracklet.poses):
            continue
        if one.travels or np.linalg.norm(one.path_F3[last] - one.path_F3[row]) > _STEP:
            pose = tracklet.poses[row]
            on_object_N |= inside_box(
                points_velo_3N, pose[:3], tracklet.size, float(pose[3]), _BOX_MARGIN
            )
    return on_object_N


def _travels(path_F3: Floats) -> bool:
    """Whether an object moves over its whole tracklet; also if no position is known."""
    known_F3 = path_F3[np.isfinite(path_F3).all(1)]
    return not len(known_F3) or bool(np.linalg.norm(known_F3 - known_F3[0], axis=1).max() > _TRAVEL)


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
