"""Image-based motion check: objects whose tracks contradict the camera's motion.

The scans cannot detect a long flat side that slides along itself: its places are still covered at
the same depth. The image can, by the side's texture.

Points of an object are tracked from image 0 to image 1, and compared with their predicted positions
in a static scene. An object moves if most of its tracks agree with one translation and disagree
with no motion. Failed tracks agree with no translation. The road cannot move, so if its tracks
agree on a motion, the pose is wrong.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Bools, Floats
from ucn.preprocessing.labels.lidar.point_tracks import (
    TrackedImage,
    textured_points,
    track_points,
    tracked_back,
)

# Tolerance between the tracked and the predicted position of a static point: the largest of pixels
# of the full image, a fraction of its motion, and the error of pose and depth in metres.
_OFF_PIXELS, _OFF_PART, _OFF_METRES = 3.0, 0.05, 0.03
# Numbers of tracked points per object, and on the road.
_OBJECT_TRACKS, _ROAD_TRACKS = 40, 100
# An object moved if at least _LEAST_TRACKS of its tracks, and the fraction _MOVED_PART of its
# deciding tracks, agree with a translation. The tolerance for agreement is _STEP_TOLERANCE times
# the tolerance for static points.
_LEAST_TRACKS = 8
_MOVED_PART = 0.6
_STEP_TOLERANCE = 0.7
# An object must be at least this many translations long; faster ones are left to the scans.
_LENGTHS = 1.5
# Translations shorter than this (metres), or steeper (horizontal over vertical), are pose errors.
_LEAST_STEP, _FLAT = 0.04, 2.0
# Minimum size of an object, in tracking windows (across, down); windows on smaller objects see the
# surroundings.
_WINDOWS = np.array([[2.0], [1.0]])
# With this many displaced tracks, the lost points are tracked again from the object's translation.
_FEW_TRACKS = 4
# Minimum depth, metres.
_NEAREST = 0.1
# Minimum number of road tracks for a check of the pose, and the fraction of them that must be
# displaced for it.
_LEAST_ROAD_TRACKS = 20
_LEAST_DRIFT = 0.5


@dataclass(frozen=True)
class Verdict:
    """Result of the image-based check on points that the scans consider static.

    Attributes:
        moves_N: whether each point is on a moving object.
        pose_inconsistency: fraction of the road's tracks that contradict the pose and agree on
            another one, 0 to 1; 0 if the road has too few tracks, or too few displaced ones.
    """

    moves_N: Bools
    pose_inconsistency: float


@dataclass(frozen=True)
class Step:
    """A translation that tracks agree with.

    Attributes:
        step_3: the translation, metres.
        moved: number of tracks that agree with it and disagree with no motion.
        decide: ``moved`` plus the number of tracks that disagree with it.
    """

    step_3: Floats
    moved: int
    decide: int


def judge_by_images(
    images: tuple[TrackedImage, TrackedImage],
    labels_N: NDArray[np.int32],
    starts_2N: Floats,
    static_2N: Floats,
    depth_N: Floats,
    K: Floats,
) -> Verdict:
    """Finds the objects that move, and measures how far the road's tracks contradict the pose.

    Args:
        images: two images of one size.
        labels_N: object of each point; 0 for the road.
        starts_2N: points in image 0, pixels.
        static_2N: predicted positions in image 1 if the points are static, pixels.
        depth_N: predicted depths in camera 1 if the points are static, metres.
        K: 3x3 intrinsics of camera 1.
    """
    textured_N = np.flatnonzero(textured_points(images[0], starts_2N))
    chosen_M = textured_N[spread_over_objects(labels_N[textured_N])]
    moved_L = np.zeros(int(labels_N.max(initial=0)) + 1, bool)
    if not len(chosen_M):
        return Verdict(moved_L[labels_N], 0.0)
    labels_M, depth_M = labels_N[chosen_M], depth_N[chosen_M]
    starts_2M, static_2M = starts_2N[:, chosen_M], static_2N[:, chosen_M]
    tolerance_M = tolerances(starts_2M, static_2M, depth_M, float(K[0, 0]))
    points_3M = np.linalg.solve(K, np.vstack([static_2M, np.ones(len(depth_M))])) * depth_M
    ends_2M, found_M = _follow(images, labels_M, starts_2M, points_3M, tolerance_M, K)
    least_size_21 = _WINDOWS * images[0].window_side
    for label in np.unique(labels_M[labels_M > 0]):
        own_F = np.flatnonzero((labels_M == label) & found_M)
        wide = len(own_F) and (np.ptp(starts_2M[:, own_F], axis=1, keepdims=True) >= least_size_21)
        if len(own_F) >= _LEAST_TRACKS and np.all(wide):
            moved_L[label] = moves_as_one(
                points_3M[:, own_F], ends_2M[:, own_F], tolerance_M[own_F], K
            )
    road_F = np.flatnonzero((labels_M == 0) & found_M)
    if len(road_F) < _LEAST_ROAD_TRACKS:
        return Verdict(moved_L[labels_N], 0.0)
    drift = common_step(points_3M[:, road_F], ends_2M[:, road_F], tolerance_M[road_F], K)
    return Verdict(moved_L[labels_N], drift.moved / len(road_F))


def _follow(
    images: tuple[TrackedImage, TrackedImage],
    labels_M: NDArray[np.int32],
    starts_2M: Floats,
    points_3M: Floats,
    tolerance_M: Floats,
    K: Floats,
) -> tuple[Floats, Bools]:
    """Ends of the tracks in pixels, and whether each is reliable.

    Only displaced tracks are tracked back, and only where an object or the road has enough of them.
    A track that ends at its static prediction agrees with no motion.

    Tracking from the static prediction often fails for fast objects. If a few tracks of an object
    agree on a translation, its lost points are tracked again from there.
    """
    static_2M = _project(points_3M, np.zeros((1, 3)), K)[0]
    ends_2M, found_M = track_points(images, starts_2M, static_2M)
    off_M = found_M & (np.linalg.norm(ends_2M - static_2M, axis=0) > tolerance_M)
    off_L = np.bincount(labels_M[off_M], minlength=int(labels_M.max()) + 1)
    suspect_L = off_L >= _FEW_TRACKS
    suspect_L[0] = off_L[0] > _LEAST_ROAD_TRACKS * _LEAST_DRIFT
    asked_K = np.flatnonzero(off_M & suspect_L[labels_M])
    found_M[asked_K] = tracked_back(
        images, starts_2M[:, asked_K], static_2M[:, asked_K], ends_2M[:, asked_K]
    )
    guesses_2M, again_M = static_2M, np.zeros(len(off_M), bool)
    for label in 1 + np.flatnonzero(suspect_L[1:]):
        own_M = labels_M == label
        own_F, missed_F = np.flatnonzero(own_M & found_M), np.flatnonzero(own_M & ~found_M)
        step = common_step(points_3M[:, own_F], ends_2M[:, own_F], tolerance_M[own_F], K)
        # Whether the object could still count as moving if all lost points joined this step.
        if len(missed_F) and _enough(step.moved + len(missed_F), step.decide + len(missed_F)):
            guesses_2M[:, missed_F] = _project(points_3M[:, missed_F], step.step_3[None], K)[0]
            again_M[missed_F] = True
    again_K = np.flatnonzero(again_M)
    starts_2K, guesses_2K = starts_2M[:, again_K], guesses_2M[:, again_K]
    ends_2M[:, again_K], found_K = track_points(images, starts_2K, guesses_2K)
    found_M[again_K] = found_K & tracked_back(images, starts_2K, guesses_2K, ends_2M[:, again_K])
    return ends_2M, found_M


def spread_over_objects(labels_N: NDArray[np.int32]) -> NDArray[np.intp]:
    """Indices of the points to track, a limited number per object and on the road.

    They are spread evenly over each object's points. Objects with too few points get none.

    Args:
        labels_N: object of each point; 0 for the road.
    """
    if not len(labels_N):
        return np.zeros(0, np.intp)
    order_N = np.argsort(labels_N, kind="stable")
    sorted_N = labels_N.take(order_N)
    size_L = np.bincount(labels_N)
    wanted_L = np.minimum(size_L, _OBJECT_TRACKS)
    wanted_L[0] = min(size_L[0], _ROAD_TRACKS)
    wanted_L[size_L < _LEAST_TRACKS] = 0
    rank_N = np.arange(len(labels_N)) - np.searchsorted(sorted_N, sorted_N)
    # Splits the points of each object into equal parts and keeps the first point of each part.
    wanted_N, size_N = wanted_L.take(sorted_N), size_L.take(sorted_N)
    starts_part_N = rank_N * wanted_N // size_N != (rank_N - 1) * wanted_N // size_N
    return np.asarray(order_N[starts_part_N])


def tolerances(starts_2M: Floats, static_2M: Floats, depth_M: Floats, focal: float) -> Floats:
    """Largest distance of a static point from its prediction, pixels."""
    motion_M = np.linalg.norm(static_2M - starts_2M, axis=0)
    off_M: Floats = np.maximum(_OFF_PART * motion_M, focal * _OFF_METRES / depth_M)
    return np.maximum(off_M, _OFF_PIXELS)


def moves_as_one(points_3M: Floats, ends_2M: Floats, tolerance_M: Floats, K: Floats) -> bool:
    """Whether the tracks of one object show that it moves.

    Args:
        points_3M: points if the object is static, in camera 1's frame, metres.
        ends_2M: tracked positions in image 1, pixels.
        tolerance_M: largest distance of a static point from its prediction, pixels.
        K: 3x3 intrinsics of camera 1.
    """
    found = common_step(points_3M, ends_2M, tolerance_M, K)
    distance = float(np.linalg.norm(found.step_3))
    length = float(np.ptp(found.step_3 @ points_3M)) / max(distance, 1e-9)
    along, rise = float(np.hypot(found.step_3[0], found.step_3[2])), abs(float(found.step_3[1]))
    drives = along >= max(_LEAST_STEP, _FLAT * rise)
    enough = _enough(found.moved, found.decide)
    return bool(enough and drives and length >= _LENGTHS * distance)


def _enough(moved: int, decide: int) -> bool:
    return moved >= max(_LEAST_TRACKS, _MOVED_PART * decide)


def common_step(points_3M: Floats, ends_2M: Floats, tolerance_M: Floats, K: Floats) -> Step:
    """The translation that most tracks agree with.

    Tracks that also agree with no motion are not counted. Tracks that disagree count against it.

    Args:
        points_3M, ends_2M, tolerance_M, K: as in :func:`moves_as_one`.
    """
    stand_M = np.linalg.norm(_project(points_3M, np.zeros((1, 3)), K)[0] - ends_2M, axis=0)
    displaced_M = stand_M > tolerance_M
    displaced_D = np.flatnonzero(displaced_M)
    if len(displaced_D) < _FEW_TRACKS:
        return Step(np.zeros(3), 0, 0)
    rows_D23, values_D2 = _equations(points_3M[:, displaced_D], ends_2M[:, displaced_D], K)
    half = len(displaced_D) // 2
    normal_D33 = rows_D23.transpose(0, 2, 1) @ rows_D23
    right_D3 = np.einsum("mid,mi->md", rows_D23, values_D2)
    # One candidate per pair of displaced tracks.
    steps_D3 = _solve(
        normal_D33 + np.roll(normal_D33, half, axis=0),
        right_D3 + np.roll(right_D3, half, axis=0),
    )
    off_DM = np.linalg.norm(_project(points_3M, steps_D3, K) - ends_2M, axis=1)
    agree_DM = off_DM <= _STEP_TOLERANCE * tolerance_M
    moved_D, against_D = (agree_DM & displaced_M).sum(axis=1), (~agree_DM).sum(axis=1)
    best = int((moved_D - against_D).argmax())
    return Step(steps_D3[best], int(moved_D[best]), int(moved_D[best] + against_D[best]))


def _equations(points_3M: Floats, ends_2M: Floats, K: Floats) -> tuple[Floats, Floats]:
    """Two equations per track, rows [M, 2, 3] and values [M, 2], for a translation t.

    A point (X, Y, Z) that is seen along (a, b, 1) after the translation satisfies
    X + tx = a (Z + tz) and Y + ty = b (Z + tz). Division by the depth gives all points equal
    errors.
    """
    rays_3M = np.linalg.solve(K, np.vstack([ends_2M, np.ones(ends_2M.shape[1])]))
    ab_M2 = (rays_3M[:2] / rays_3M[2]).T
    z_M = points_3M[2]
    rows_M23 = np.concatenate([np.tile(np.eye(2), (len(z_M), 1, 1)), -ab_M2[..., None]], axis=2)
    return rows_M23 / z_M[:, None, None], ab_M2 - (points_3M[:2] / z_M).T


def _solve(normal_S33: Floats, right_S3: Floats) -> Floats:
    """Least squares [S, 3], slightly regularised: undetermined components become 0."""
    pulled_S33 = normal_S33 + 1e-9 * np.eye(3)
    return np.asarray(np.linalg.solve(pulled_S33, right_S3[..., None])[..., 0])


def _project(points_3M: Floats, steps_S3: Floats, K: Floats) -> Floats:
    """Pixels [S, 2, M] of the points after each translation."""
    moved_S3M = points_3M + steps_S3[..., None]
    moved_S3M[:, 2] = np.maximum(moved_S3M[:, 2], _NEAREST)
    u_S3M = K @ moved_S3M
    return np.asarray(u_S3M[:, :2] / u_S3M[:, 2:])
