"""Relative pose from matches, its errors, and scores over pairs.

Convention: T_1_0 = [R | t] maps points of camera 0 into camera 1; angles are in degrees.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.evaluation.scores.estimators import ESTIMATORS, MIN_MATCHES, Doubles, Rays, RelativePose
from ucn.evaluation.scores.recall import Errors, area_under_recall, mean_recall
from ucn.evaluation.scores.rotation import estimate_rotation, prefers_rotation

FAILED_DEG = 180.0
"""Rotation and translation error of a pair without an estimate. Failures count in all scores."""
MAP_STEP_DEG = 5
"""Step between the thresholds whose recalls :func:`pose_map` averages, degrees."""


@dataclass(frozen=True)
class PoseError:
    """Errors of one pose estimate, degrees in [0, 180].

    Attributes:
        rotation_deg: angle of R_pred^T R_true.
        translation_deg: angle between the translations; None for a pair without translation.
    """

    rotation_deg: float
    translation_deg: float | None


PoseErrors = Mapping[str, tuple[PoseError, ...]]
"""By estimator, one error per seed; ``ESTIMATOR/threshold_T`` for further inlier thresholds, and
``QUERIES:ESTIMATOR`` for further queries."""


def mean_focal(K0: Doubles, K1: Doubles) -> float:
    """Mean of all four focal lengths of two cameras, pixels."""
    return float(np.mean([K0[0, 0], K0[1, 1], K1[0, 0], K1[1, 1]]))


def normalise_points(points_N2: NDArray[np.floating], K: Doubles) -> Doubles:
    """Maps pixels to normalised camera coordinates (x / z, y / z): float64 [N, 2]."""
    homogeneous_N3 = np.column_stack([points_N2.astype(np.float64), np.ones(len(points_N2))])
    rays_N3 = np.linalg.solve(K, homogeneous_N3.T).T
    return np.ascontiguousarray(rays_N3[:, :2] / rays_N3[:, 2:], np.float64)


def estimate_pose(
    matches_N4: NDArray[np.floating],
    K0: Doubles,
    K1: Doubles,
    estimator: str,
    threshold_px: float,
    seed: int,
) -> RelativePose | None:
    """Robustly estimates the relative pose by one estimator; see :func:`estimate_poses`."""
    return estimate_poses(matches_N4, K0, K1, (estimator,), threshold_px, seed)[estimator]


def estimate_poses(
    matches_N4: NDArray[np.floating],
    K0: Doubles,
    K1: Doubles,
    estimators: Sequence[str],
    threshold_px: float,
    seed: int,
) -> dict[str, RelativePose | None]:
    """Robustly estimates the relative pose from matches of two calibrated images.

    Essential matrices do not determine the rotation of a pair without parallax. If a pure rotation
    explains the matches at least as well, it replaces that of the estimator; see `.rotation`.

    Args:
        matches_N4: x0, y0, x1, y1 in pixels; may contain outliers.
        K0, K1: 3x3 intrinsics of each image; they may differ.
        estimators: names in `ESTIMATORS`.
        threshold_px: inlier threshold on the epipolar error, in pixels of the mean focal length.
        seed: random seed.

    Returns:
        The pose by estimator; its translation is None if only a rotation was found. None if there
        are fewer than five matches or no model was found.
    """
    if len(matches_N4) < MIN_MATCHES:
        return dict.fromkeys(estimators)
    rays = Rays(
        normalise_points(matches_N4[:, :2], K0),
        normalise_points(matches_N4[:, 2:], K1),
        mean_focal(K0, K1),
    )
    poses = {name: ESTIMATORS[name](rays, threshold_px, seed) for name in estimators}
    R = estimate_rotation(rays, threshold_px, seed)
    return {
        name: pose
        if R is None or not prefers_rotation(R, pose, rays, threshold_px)
        else RelativePose(R, None if pose is None else pose.t)
        for name, pose in poses.items()
    }


def rotation_error_deg(R_pred: Doubles, R_true: Doubles) -> float:
    """Angle between two rotations: arccos((tr(R_pred^T R_true) - 1) / 2).

    Computed as atan2(sine, cosine), which is accurate near 0 and 180 degrees. There, rounding can
    take the cosine out of [-1, 1].
    """
    relative = R_pred.T @ R_true
    axis = relative[[2, 0, 1], [1, 2, 0]] - relative[[1, 2, 0], [2, 0, 1]]
    return float(np.degrees(np.arctan2(np.linalg.norm(axis), np.trace(relative) - 1)))


def translation_error_deg(t_pred: Doubles, t_true: Doubles) -> float:
    """Angle between two translations, in [0, 180].

    The sign counts: a reversed translation is 180 degrees wrong, since points in front of both
    cameras determine the sign. Some benchmarks fold this error to 0.
    """
    sine = np.linalg.norm(np.cross(t_pred, t_true))
    return float(np.degrees(np.arctan2(sine, t_pred @ t_true)))


def pose_error(pose: RelativePose | None, T_1_0: Doubles, *, moves: bool) -> PoseError:
    """Compares an estimate with the true pose.

    Args:
        pose: the estimate; None for a failure, which counts as 180 degrees.
        T_1_0: the true pose.
        moves: False for a pair without translation, for which only rotation is scored.
    """
    rotation = FAILED_DEG if pose is None else rotation_error_deg(pose.R, T_1_0[:3, :3])
    if not moves:
        return PoseError(rotation, None)
    if pose is None or pose.t is None:
        return PoseError(rotation, FAILED_DEG)
    return PoseError(rotation, translation_error_deg(pose.t, T_1_0[:3, 3]))


def median_parallax_px(
    truth_N4: NDArray[np.floating], K0: Doubles, K1: Doubles, T_1_0: Doubles
) -> float:
    """Median parallax: distance of true matches in image 1 from a pure rotation, pixels."""
    rays0_N2 = normalise_points(truth_N4[:, :2], K0)
    turned_N3 = np.column_stack([rays0_N2, np.ones(len(rays0_N2))]) @ (K1 @ T_1_0[:3, :3]).T
    shift_N2 = truth_N4[:, 2:] - turned_N3[:, :2] / turned_N3[:, 2:]
    return float(np.median(np.linalg.norm(shift_N2, axis=1)))


def pose_auc(errors_deg: Errors, threshold_deg: float) -> float:
    """Area under the recall curve of pose errors up to a threshold, in percent (AUC).

    As in SuperGlue (Sarlin et al., CVPR 2020); see `.recall.area_under_recall`.

    Args:
        errors_deg: one error per pair, the larger of rotation and translation error. `FAILED_DEG`
            for a pair without an estimate.
        threshold_deg: threshold, degrees.
    """
    return area_under_recall(errors_deg, threshold_deg)


def pose_map(errors_deg: Errors, threshold_deg: int) -> float:
    """Mean average precision (mAP) of poses up to a threshold, in percent.

    The mean over 5, 10, ..., threshold degrees of the percentage of pairs with a smaller error. As
    in OANet (Zhang et al., ICCV 2019) and published YFCC tables; mAP@5 is the percentage below 5
    degrees. OANet folds reversed translations to 0 degrees. :func:`translation_error_deg` does
    not, so results can only be lower.

    Args:
        errors_deg: as in :func:`pose_auc`.
        threshold_deg: a positive multiple of 5.
    """
    return mean_recall(errors_deg, threshold_deg, MAP_STEP_DEG)


def sweep_thresholds(
    matches_N4: NDArray[np.floating],
    K0: Doubles,
    K1: Doubles,
    T_1_0: Doubles,
    estimators: Sequence[str],
    thresholds_px: Sequence[float],
    seeds: Sequence[int],
    *,
    moves: bool,
) -> PoseErrors:
    """Estimates the pose at several inlier thresholds, since the best one depends on the method.

    Args:
        matches_N4, K0, K1, estimators: as in :func:`estimate_poses`.
        T_1_0, moves: as in :func:`pose_error`.
        thresholds_px: inlier thresholds.
        seeds: random seeds.

    Returns:
        Errors by estimator and threshold; `FAILED_DEG` for failures.

    Raises:
        ValueError: there are no thresholds or seeds, or a threshold is not positive.
    """
    if not thresholds_px or not seeds or not all(value > 0 for value in thresholds_px):
        raise ValueError(f"no sweep over thresholds {thresholds_px} px and seeds {seeds}")
    by_threshold = [
        [estimate_poses(matches_N4, K0, K1, estimators, threshold, seed) for seed in seeds]
        for threshold in thresholds_px
    ]
    return {
        f"{name}/threshold_{threshold:g}" if rank else name: tuple(
            pose_error(poses[name], T_1_0, moves=moves) for poses in by_seed
        )
        for name in estimators
        for rank, (threshold, by_seed) in enumerate(zip(thresholds_px, by_threshold, strict=True))
    }
