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
# Minimum number of displaced tracks from which a translation is estimated.
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
class Step:
    """A translation that tracks agree with.

    Attributes:
        step_3: the translation, metres.
        moved: number of tracks that agree with it and disagree with no motion.
        against: number of tracks that disagree with it.
    """

    step_3: Floats
    moved: int
    against: int


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

    ends_2M, found_M, suspects = _track_suspects(
        images, labels_M, starts_2M, static_2M, tolerance_M
    )

    def found_step(label: int) -> Step:
        own_F = np.flatnonzero((labels_M == label) & found_M)
        return common_step(points_3M[:, own_F], ends_2M[:, own_F], tolerance_M[own_F], K)

    steps = {label: found_step(label) for label in suspects}
    # Tracking from the static prediction often fails for fast objects. If some tracks of an object
    # agree on a translation, its lost points are tracked again from there.
    again_M, guesses_2M = np.zeros(len(found_M), bool), static_2M.copy()
    for label, step in steps.items():
        lost_K = np.flatnonzero((labels_M == label) & ~found_M)
        decided = label == 0 or step.moved == 0 or _enough(step.moved, step.against)
        # Whether the object would count as moving if all lost points joined this step.
        if not decided and _enough(step.moved + len(lost_K), step.against):
            guesses_2M[:, lost_K] = _project(points_3M[:, lost_K], step.step_3[None], K)[0]
            again_M[lost_K] = True
    again_K = np.flatnonzero(again_M)
    starts_2K, guesses_2K = starts_2M[:, again_K], guesses_2M[:, again_K]
    ends_2M[:, again_K], found_K = track_points(images, starts_2K, guesses_2K)
    found_M[again_K] = found_K & tracked_back(images, starts_2K, guesses_2K, ends_2M[:, again_K])
    steps |= {label: found_step(label) for label in np.unique(labels_M[again_K]).tolist()}

    least_size_21 = _WINDOWS * images[0].window_side
    drift = 0.0
    for label, step in steps.items():
        own_F = np.flatnonzero((labels_M == label) & found_M)
        if label == 0 and len(own_F) >= _LEAST_ROAD_TRACKS:
            drift = step.moved / len(own_F)
        elif label and shows_motion(step, points_3M[:, own_F]):
            size_21 = np.ptp(starts_2M[:, own_F], axis=1, keepdims=True)
            moved_L[label] = np.all(size_21 >= least_size_21)
    return Verdict(moved_L[labels_N], drift)


def _track_suspects(
    images: tuple[TrackedImage, TrackedImage],
    labels_M: NDArray[np.int32],
    starts_2M: Floats,
    static_2M: Floats,
    tolerance_M: Floats,
) -> tuple[Floats, Bools, list[int]]:
    """Tracks the points of objects that may have moved, and of the road if the pose may be wrong.

    Returns:
        Ends of the tracks in pixels, whether each is reliable, and the labels of the suspects.
    """
    ends_2M, found_M = static_2M.copy(), np.zeros(len(labels_M), bool)
    size_L = np.bincount(labels_M)
    first_M = (np.arange(len(labels_M)) % _FIRST_EVERY == 0) | (size_L < _TRACKS)[labels_M]
    off_M, suspect_L = np.zeros(len(labels_M), bool), size_L > 0
    for new_M, least_off in ((first_M, _FIRST_OFF), (~first_M, _LEAST_TRACKS)):
        new_K = np.flatnonzero(new_M & suspect_L[labels_M])
        starts_2K, static_2K = starts_2M[:, new_K], static_2M[:, new_K]
        ends_2K, found_M[new_K] = track_points(images, starts_2K, static_2K)
        off_M[new_K] = ~found_M[new_K] | _displaced(ends_2K, static_2K, tolerance_M[new_K])
        ends_2M[:, new_K] = ends_2K
        suspect_L &= np.bincount(labels_M[off_M], minlength=len(size_L)) >= least_off
    # A track that ends at its static prediction agrees with no motion, and is not tracked back.
    found_M &= suspect_L[labels_M]
    off_K = np.flatnonzero(found_M & off_M)
    found_M[off_K] = tracked_back(
        images, starts_2M[:, off_K], static_2M[:, off_K], ends_2M[:, off_K]
    )
    return ends_2M, found_M, np.flatnonzero(suspect_L).tolist()


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
    wanted_L = np.minimum(size_L, _TRACKS)
    wanted_L[size_L < _LEAST_TRACKS] = 0
    rank_N = np.arange(len(labels_N)) - (np.cumsum(size_L) - size_L).take(sorted_N)
    # Splits the points of each object into equal parts and keeps the first point of each part.
    wanted_N, size_N = wanted_L.take(sorted_N), size_L.take(sorted_N)
    starts_part_N = rank_N * wanted_N // size_N != (rank_N - 1) * wanted_N // size_N
    return np.asarray(order_N[starts_part_N])


def tolerances(starts_2M: Floats, static_2M: Floats, depth_M: Floats, focal: float) -> Floats:
    """Largest distance of a static point from its prediction, pixels."""
    motion_M = np.linalg.norm(static_2M - starts_2M, axis=0)
    off_M: Floats = np.maximum(_OFF_PART * motion_M, focal * _OFF_METRES / depth_M)
    return np.maximum(off_M, _OFF_PIXELS)


def shows_motion(found: Step, points_3M: Floats) -> bool:
    """Whether a translation of an object's points is that of a moving object."""
    if not _enough(found.moved, found.against):
        return False
    distance = float(np.linalg.norm(found.step_3))
    length = float(np.ptp(found.step_3 @ points_3M)) / max(distance, 1e-9)
    along, rise = float(np.hypot(found.step_3[0], found.step_3[2])), abs(float(found.step_3[1]))
    return along >= max(_LEAST_STEP, _FLAT * rise) and length >= _LENGTHS * distance


def _enough(moved: int, against: int) -> bool:
    return moved >= max(_LEAST_TRACKS, _MOVED_PART * (moved + against))


def common_step(points_3M: Floats, ends_2M: Floats, tolerance_M: Floats, K: Floats) -> Step:
    """The translation that most tracks agree with.

    Tracks that also agree with no motion are not counted. Tracks that disagree count against it.

    Args:
        points_3M: points if the object is static, in camera 1's frame, metres.
        ends_2M: tracked positions in image 1, pixels.
        tolerance_M: largest distance of a static point from its prediction, pixels.
        K: 3x3 intrinsics of camera 1.
    """
    displaced_M = _displaced(ends_2M, _project(points_3M, np.zeros((1, 3)), K)[0], tolerance_M)
    displaced_D = np.flatnonzero(displaced_M)
    if len(displaced_D) < _FEW_TRACKS:
        return Step(np.zeros(3), 0, 0)
    rows_D23, values_D2 = _equations(points_3M[:, displaced_D], ends_2M[:, displaced_D], K)
    # One candidate per pair of displaced tracks.
    others_D = (np.arange(len(displaced_D)) + len(displaced_D) // 2) % len(displaced_D)
    rows_D43 = np.concatenate([rows_D23, rows_D23[others_D]], axis=1)
    values_D41 = np.concatenate([values_D2, values_D2[others_D]], axis=1)[..., None]
    steps_D3 = _solve(rows_D43, values_D41)
    agree_DM = ~_displaced(_project(points_3M, steps_D3, K), ends_2M, _STEP_TOLERANCE * tolerance_M)
    moved_D, agree_D = (agree_DM & displaced_M).sum(axis=1), agree_DM.sum(axis=1)
    best = int((moved_D + agree_D).argmax())
    return Step(steps_D3[best], int(moved_D[best]), len(tolerance_M) - int(agree_D[best]))


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


def _solve(rows_S43: Floats, values_S41: Floats) -> Floats:
    """Least squares [S, 3], slightly regularised: undetermined components become 0."""
    columns_S34 = rows_S43.transpose(0, 2, 1)
    normal_S33 = columns_S34 @ rows_S43 + 1e-9 * np.eye(3)
    return np.asarray(np.linalg.solve(normal_S33, columns_S34 @ values_S41)[..., 0])


def _displaced(pixels_S2M: Floats, others_2M: Floats, tolerance_M: Floats) -> Bools:
    """Whether pixels [2, M] or [S, 2, M] are farther than the tolerance from others."""
    off_S2M = pixels_S2M - others_2M
    off_S2M *= off_S2M
    return np.asarray(off_S2M.sum(axis=-2) > tolerance_M**2)


def _project(points_3M: Floats, steps_S3: Floats, K: Floats) -> Floats:
    """Pixels [S, 2, M] of the points after each translation."""
    depth_SM = np.maximum(points_3M[2] + steps_S3[:, 2:], _NEAREST)
    moved_S2M = (K[:2, :2] @ points_3M[:2]) + (steps_S3[:, :2] @ K[:2, :2].T)[..., None]
    return np.asarray(moved_S2M / depth_SM[:, None] + K[:2, 2:])
