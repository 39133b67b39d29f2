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
# Number of tracked points per object, and on the road. Every third one is tracked first, and the
# others only if at least _FIRST_OFF of these are displaced or lost.
_TRACKS, _FIRST_EVERY, _FIRST_OFF = 40, 3, 3
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
# Minimum numbers of displaced tracks to estimate a translation, and of lost ones to track again.
_FEW_TRACKS = 4
# Minimum depth, metres.
_NEAREST = 0.1
# Minimum number of road tracks for a check of the pose.
_LEAST_ROAD_TRACKS = 20


@dataclass(frozen=True)
class Verdict:
    """Result of the image-based check on points that the scans consider static.

    Attributes:
        moves_N: whether each point is on a moving object.
        pose_inconsistency: fraction of the road's tracks that contradict the pose and agree on
            another one, 0 to 1; 0 if the road has too few tracks, or too few of them are displaced.
    """

    moves_N: Bools
    pose_inconsistency: float


@dataclass(frozen=True)
class Steps:
    """Translations that the tracks of L objects agree with.

    Attributes:
        step_L3: the translations, metres.
        moved_L: numbers of tracks that agree with it and disagree with no motion.
        against_L: numbers of tracks that disagree with it.
    """

    step_L3: Floats
    moved_L: NDArray[np.intp]
    against_L: NDArray[np.intp]


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
        K: 3x3 intrinsics of camera 1, upper triangular.
    """
    moves_L = np.zeros(int(labels_N.max(initial=0)) + 1, bool)
    textured_N = np.flatnonzero(textured_points(images[0], starts_2N))
    chosen_LM, valid_LM = spread_over_objects(labels_N.take(textured_N))
    if not valid_LM.any():
        return Verdict(moves_L[labels_N], 0.0)
    chosen_LM = textured_N[chosen_LM]
    label_L, depth_LM = labels_N[chosen_LM[:, 0]], depth_N[chosen_LM]
    starts_2LM, static_2LM = starts_2N[:, chosen_LM], static_2N[:, chosen_LM]
    tolerance_LM = tolerances(starts_2LM, static_2LM, depth_LM, float(K[0, 0]))
    points_3LM = _rays(static_2LM, K) * depth_LM

    ends_2LM, found_LM, suspect_L = _track_suspects(
        images, valid_LM, label_L, starts_2LM, static_2LM, tolerance_LM
    )
    own_L = np.flatnonzero(suspect_L)
    label_L, starts_2LM, static_2LM = label_L[own_L], starts_2LM[:, own_L], static_2LM[:, own_L]
    tolerance_LM, points_3LM = tolerance_LM[own_L], points_3LM[:, own_L]
    ends_2LM, found_LM = ends_2LM[:, own_L], found_LM[own_L]
    steps = common_steps(points_3LM, ends_2LM, found_LM, tolerance_LM, K)
    # Tracking from the static prediction often fails for fast objects. If some tracks of an object
    # agree on a translation, its lost points are tracked again from there, unless the object would
    # not count as moving even if all of them joined.
    lost_LM = valid_LM[own_L] & ~found_LM
    lost_L = lost_LM.sum(axis=1)
    might_L = (label_L > 0) & (steps.moved_L > 0) & (lost_L >= _FEW_TRACKS)
    might_L &= _enough(steps.moved_L + lost_L, steps.against_L)
    might_L &= ~_enough(steps.moved_L, steps.against_L)
    again_LM = lost_LM & might_L[:, None]
    if again_LM.any():
        starts_2K = starts_2LM[:, again_LM]
        guesses_2K = _project(points_3LM + steps.step_L3.T[..., None], K)[:, again_LM]
        ends_2K, found_K = track_points(images, starts_2K, guesses_2K)
        found_LM[again_LM] = found_K & tracked_back(images, starts_2K, guesses_2K, ends_2K)
        ends_2LM[:, again_LM] = ends_2K
        steps = common_steps(points_3LM, ends_2LM, found_LM, tolerance_LM, K)

    large_L = np.all(_extent(starts_2LM, found_LM) >= _WINDOWS * images[0].window_side, axis=0)
    moves_L[label_L] = show_motion(steps, points_3LM, found_LM) & large_L & (label_L > 0)
    found_L = found_LM.sum(axis=1)
    road_L = (label_L == 0) & (found_L >= _LEAST_ROAD_TRACKS)
    return Verdict(moves_L[labels_N], float((steps.moved_L / found_L.clip(1)) @ road_L))


def _track_suspects(
    images: tuple[TrackedImage, TrackedImage],
    valid_LM: Bools,
    label_L: NDArray[np.int32],
    starts_2LM: Floats,
    static_2LM: Floats,
    tolerance_LM: Floats,
) -> tuple[Floats, Bools, Bools]:
    """Tracks the points of objects that may have moved, and of the road if the pose may be wrong.

    Returns:
        Ends of the tracks in pixels, whether each is reliable, and which objects are suspects.
    """
    ends_2LM = static_2LM.copy()
    found_LM, off_LM = np.zeros(valid_LM.shape, bool), np.zeros(valid_LM.shape, bool)
    first_LM = (np.arange(_TRACKS) % _FIRST_EVERY == 0) | ~valid_LM[:, -1:]
    suspect_L = np.ones(len(label_L), bool)
    for new_LM, least_off in ((first_LM, _FIRST_OFF), (~first_LM, _LEAST_TRACKS)):
        asked_LM = valid_LM & new_LM & suspect_L[:, None]
        starts_2K, static_2K = starts_2LM[:, asked_LM], static_2LM[:, asked_LM]
        ends_2K, found_K = track_points(images, starts_2K, static_2K)
        ends_2LM[:, asked_LM], found_LM[asked_LM] = ends_2K, found_K
        off_LM[asked_LM] = ~found_K | _apart(ends_2K, static_2K, tolerance_LM[asked_LM])
        suspect_L &= off_LM.sum(axis=1) >= least_off
    # A track that ends at its static prediction agrees with no motion, and is not tracked back.
    back_LM = found_LM & off_LM & suspect_L[:, None]
    found_LM[back_LM] = tracked_back(
        images, starts_2LM[:, back_LM], static_2LM[:, back_LM], ends_2LM[:, back_LM]
    )
    return ends_2LM, found_LM, suspect_L


def spread_over_objects(labels_N: NDArray[np.int32]) -> tuple[NDArray[np.intp], Bools]:
    """Indices [L, M] of at most ``_TRACKS`` points to track of each object, and which are valid.

    They are spread evenly over each object's points. Objects with too few points get none.

    Args:
        labels_N: object of each point; 0 for the road.
    """
    order_N = np.argsort(labels_N, kind="stable")
    size_L = np.bincount(labels_N)
    first_L = np.cumsum(size_L) - size_L
    large_L = np.flatnonzero(size_L >= _LEAST_TRACKS)
    size_L1, first_L1 = size_L[large_L, None], first_L[large_L, None]
    # The first point of each of equal parts of the object's points.
    wanted_L1, rank_M = np.minimum(size_L1, _TRACKS), np.arange(_TRACKS)
    valid_LM = rank_M < wanted_L1
    rank_LM = -(-rank_M * size_L1 // wanted_L1) * valid_LM
    return order_N[first_L1 + rank_LM], valid_LM


def tolerances(starts_2M: Floats, static_2M: Floats, depth_M: Floats, focal: float) -> Floats:
    """Largest distance of a static point from its prediction, pixels."""
    motion_M = np.linalg.norm(static_2M - starts_2M, axis=0)
    off_M: Floats = np.maximum(_OFF_PART * motion_M, focal * _OFF_METRES / depth_M)
    return np.maximum(off_M, _OFF_PIXELS)


def show_motion(steps: Steps, points_3LM: Floats, found_LM: Bools) -> Bools:
    """Which translations are those of moving objects."""
    step_3L = steps.step_L3.T
    distance_L = np.linalg.norm(step_3L, axis=0)
    along_L, rise_L = np.hypot(step_3L[0], step_3L[2]), np.abs(step_3L[1])
    along_1LM = np.einsum("dl,dlm->lm", step_3L, points_3LM)[None]
    length_L = _extent(along_1LM, found_LM)[0] / distance_L.clip(1e-9)
    moves_L = _enough(steps.moved_L, steps.against_L) & (length_L >= _LENGTHS * distance_L)
    return np.asarray(moves_L & (along_L >= np.maximum(_LEAST_STEP, _FLAT * rise_L)))


def _enough(moved_L: NDArray[np.intp], against_L: NDArray[np.intp]) -> Bools:
    return np.asarray(moved_L >= np.maximum(_LEAST_TRACKS, _MOVED_PART * (moved_L + against_L)))


def _extent(values_DLM: Floats, found_LM: Bools) -> Floats:
    """Largest minus smallest value [D, L] of the tracks that were found."""
    largest_DL = np.where(found_LM, values_DLM, -np.inf).max(axis=-1)
    return np.asarray(largest_DL - np.where(found_LM, values_DLM, np.inf).min(axis=-1))


def common_steps(
    points_3LM: Floats, ends_2LM: Floats, found_LM: Bools, tolerance_LM: Floats, K: Floats
) -> Steps:
    """The translations that most tracks of each of L objects agree with.

    Tracks that also agree with no motion are not counted. Tracks that disagree count against it.

    Args:
        points_3LM: points if the objects are static, in camera 1's frame, metres.
        ends_2LM: tracked positions in image 1, pixels.
        found_LM: which tracks are reliable; the others are ignored.
        tolerance_LM: largest distance of a static point from its prediction, pixels.
        K: 3x3 intrinsics of camera 1.
    """
    displaced_LM = found_LM & _apart(ends_2LM, _project(points_3LM, K), tolerance_LM)
    count_L = displaced_LM.sum(axis=1)
    # One candidate per pair of displaced tracks.
    object_S, first_S = np.nonzero(displaced_LM & (count_L >= _FEW_TRACKS)[:, None])
    size_S = count_L[object_S]
    start_S = np.searchsorted(object_S, object_S)
    other_S = start_S + (np.arange(len(size_S)) - start_S + size_S // 2) % size_S.clip(1)
    rows_S23, values_S2 = _equations(
        points_3LM[:, object_S, first_S], _rays(ends_2LM[:, object_S, first_S], K)
    )
    rows_S43 = np.concatenate([rows_S23, rows_S23[other_S]], axis=1)
    values_S4 = np.concatenate([values_S2, values_S2[other_S]], axis=1)
    steps_S3 = _solve(rows_S43, values_S4)
    moved_3SM = points_3LM[:, object_S] + steps_S3.T[..., None]
    near_SM = ~_apart(
        _project(moved_3SM, K), ends_2LM[:, object_S], _STEP_TOLERANCE * tolerance_LM[object_S]
    )
    agree_SM = near_SM & found_LM[object_S]
    agree_S, moved_S = agree_SM.sum(axis=1), (agree_SM & displaced_LM[object_S]).sum(axis=1)
    step_L3, moved_L, against_L = np.zeros((len(count_L), 3)), 0 * count_L, found_LM.sum(axis=1)
    # The last one assigned stays: the best, and of equal ones the first.
    order_S = np.lexsort((-np.arange(len(size_S)), moved_S + agree_S))
    best_L = object_S[order_S]
    step_L3[best_L], moved_L[best_L] = steps_S3[order_S], moved_S[order_S]
    against_L[best_L] = found_LM.sum(axis=1)[best_L] - agree_S[order_S]
    return Steps(step_L3, moved_L, against_L)


def _rays(pixels_2X: Floats, K: Floats) -> Floats:
    """Rays [3, ...] of depth 1 through pixels [2, ...]."""
    y_X = (pixels_2X[1] - K[1, 2]) / K[1, 1]
    x_X = (pixels_2X[0] - K[0, 2] - K[0, 1] * y_X) / K[0, 0]
    return np.stack([x_X, y_X, np.ones_like(x_X)])


def _equations(points_3S: Floats, rays_3S: Floats) -> tuple[Floats, Floats]:
    """Two equations per track, rows [S, 2, 3] and values [S, 2], for a translation t.

    A point (X, Y, Z) that is seen along (a, b, 1) after the translation satisfies
    X + tx = a (Z + tz) and Y + ty = b (Z + tz). Division by the depth gives all points equal
    errors.
    """
    rows_S23 = np.zeros((points_3S.shape[1], 2, 3))
    rows_S23[:, 0, 0] = rows_S23[:, 1, 1] = 1
    rows_S23[:, :, 2] = -rays_3S[:2].T
    return rows_S23 / points_3S[2, :, None, None], (rays_3S[:2] - points_3S[:2] / points_3S[2]).T


def _solve(rows_S43: Floats, values_S4: Floats) -> Floats:
    """Least squares [S, 3], slightly regularised: undetermined components become 0."""
    columns_S34 = rows_S43.transpose(0, 2, 1)
    normal_S33 = columns_S34 @ rows_S43 + 1e-9 * np.eye(3)
    return np.asarray(np.linalg.solve(normal_S33, columns_S34 @ values_S4[..., None])[..., 0])


def _apart(pixels_2X: Floats, others_2X: Floats, tolerance_X: Floats) -> Bools:
    """Whether pixels [2, ...] are farther than the tolerance from others."""
    off_2X = pixels_2X - others_2X
    return np.asarray((off_2X * off_2X).sum(axis=0) > tolerance_X * tolerance_X)


def _project(points_3X: Floats, K: Floats) -> Floats:
    """Pixels [2, ...] of points [3, ...]."""
    x_X, y_X = points_3X[:2] / np.maximum(points_3X[2], _NEAREST)
    return np.stack([K[0, 0] * x_X + K[0, 1] * y_X + K[0, 2], K[1, 1] * y_X + K[1, 2]])
