"""Scores of planar scenes: accuracy of matches, and of the homographies estimated from them.

Pixel centres lie at integers. ``H_1_0`` maps pixels of image 0 to pixels of image 1.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ucn.evaluation.scores.estimators import HOMOGRAPHY_ESTIMATORS, MIN_PLANAR_MATCHES, Doubles
from ucn.evaluation.scores.pck import pck_over_pairs
from ucn.evaluation.scores.recall import Errors, area_under_recall
from ucn.geometry.homographies import Size, apply_homography, in_front, view_corners

MMA_THRESHOLDS = tuple(range(1, 11))
"""Thresholds of the mean matching accuracy, pixels."""
CORNER_THRESHOLDS = (1, 3, 5)
"""Thresholds of the area under the recall curve of corner errors, pixels."""
FAILED_PX = float("inf")
"""Corner error of a pair without an estimate. Failures count in all scores."""


def transfer_errors(matches_N4: NDArray[np.floating], H_1_0: Doubles) -> Doubles:
    """Distance of each match from the true homography, in image 1: float64 pixels [N].

    Args:
        matches_N4: x0, y0, x1, y1 in pixels.
        H_1_0: the true homography.

    Returns:
        Infinite for points that the homography maps to or beyond the horizon.

    Raises:
        ValueError: the matches have another shape, or are not finite.
    """
    if matches_N4.ndim != 2 or matches_N4.shape[1] != 4 or not np.isfinite(matches_N4).all():
        raise ValueError(f"matches of shape {matches_N4.shape}; finite [N, 4] wanted")
    points0_N2, points1_N2 = np.split(matches_N4.astype(np.float64), 2, axis=1)
    with np.errstate(invalid="ignore"):
        errors_N = np.linalg.norm(apply_homography(H_1_0, points0_N2) - points1_N2, axis=1)
    return np.where(in_front(H_1_0, points0_N2), errors_N, np.inf)


def mean_matching_accuracy(
    errors_by_pair: Sequence[NDArray[np.floating]], thresholds: Sequence[float] = MMA_THRESHOLDS
) -> NDArray[np.float64]:
    """Mean matching accuracy (MMA): mean over pairs of the percentage of matches within T pixels.

    As in D2-Net (Dusmanu et al., CVPR 2019) and R2D2 (Revaud et al., NeurIPS 2019), which use
    mutual nearest neighbours. A pair without matches counts as 0.

    Args:
        errors_by_pair: :func:`transfer_errors` of each pair.
        thresholds: thresholds T, pixels.

    Raises:
        ValueError: there are no pairs, or as in :func:`ucn.evaluation.scores.pck.hit_counts`.
    """
    nothing_right_1 = np.array([np.inf])
    return pck_over_pairs([e if len(e) else nothing_right_1 for e in errors_by_pair], thresholds)


def estimate_homography(
    matches_N4: NDArray[np.floating], estimator: str, threshold_px: float, seed: int
) -> Doubles | None:
    """Robustly estimates the homography from matches.

    Args:
        matches_N4: x0, y0, x1, y1 in pixels.
        estimator: a name in `HOMOGRAPHY_ESTIMATORS`.
        threshold_px: inlier threshold, pixels in image 1.
        seed: random seed.

    Returns:
        H_1_0, float64 [3, 3]. None if there are fewer than four matches, no model was found, or
        the model is not invertible.
    """
    if len(matches_N4) < MIN_PLANAR_MATCHES:
        return None
    points0_N2, points1_N2 = np.split(matches_N4.astype(np.float64), 2, axis=1)
    H_1_0 = HOMOGRAPHY_ESTIMATORS[estimator](
        np.ascontiguousarray(points0_N2), np.ascontiguousarray(points1_N2), threshold_px, seed
    )
    if H_1_0 is None or not np.isfinite(H_1_0).all() or np.linalg.matrix_rank(H_1_0) < 3:
        return None
    return H_1_0


def corner_error(H_pred: Doubles | None, H_true: Doubles, size0: Size) -> float:
    """Mean distance in image 1 between the corners of image 0 under both homographies, pixels.

    The outer corners are used, at -0.5 and size - 0.5. SuperPoint (DeTone et al., CVPRW 2018)
    uses the centres of the corner pixels instead.

    Args:
        H_pred: estimated H_1_0; None for a failure, whose error is infinite.
        H_true: true H_1_0.
        size0: (width, height) of image 0.

    Raises:
        ValueError: the true homography maps a corner to or beyond the horizon.
    """
    corners_42 = view_corners(size0)
    if not in_front(H_true, corners_42).all():
        raise ValueError("the true homography takes a corner beyond the horizon")
    if H_pred is None or not in_front(H_pred, corners_42).all():
        return FAILED_PX
    apart_42 = apply_homography(H_pred, corners_42) - apply_homography(H_true, corners_42)
    return float(np.mean(np.linalg.norm(apart_42, axis=1)))


def corner_auc(errors_px: Errors, threshold_px: float) -> float:
    """Area under the recall curve of corner errors up to a threshold, in percent.

    Args:
        errors_px: :func:`corner_error` of each pair, including failures.
        threshold_px: threshold, pixels.
    """
    return area_under_recall(errors_px, threshold_px)
