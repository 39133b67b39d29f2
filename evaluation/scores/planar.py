"""Scores of one method on one planar pair: mutual matches and estimated homographies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ucn.evaluation.scores.estimators import Doubles
from ucn.evaluation.scores.homography import corner_error, estimate_homography, transfer_errors
from ucn.geometry.homographies import Size
from ucn.matching.descriptors import Floats
from ucn.matching.search import search


@dataclass(frozen=True)
class PlanarErrors:
    """Errors of one method on one pair.

    Attributes:
        transfer_errors_N: float64 pixels, one per match; input of
            :func:`ucn.evaluation.scores.homography.mean_matching_accuracy`.
        corner_errors: by estimator, one error per seed, pixels; infinite for a failure.
    """

    transfer_errors_N: Doubles
    corner_errors: Mapping[str, tuple[float, ...]]


def mutual_matches(
    points0_N2: Floats, points1_M2: Floats, described0_ND: Floats, described1_MD: Floats
) -> Floats:
    """Matches keypoints that are mutual nearest neighbours: float32 [K, 4], in order of image 0.

    Args:
        points0_N2, points1_M2: keypoints in pixels; may be empty.
        described0_ND, described1_MD: their descriptors, float32 rows of unit length (or zero).

    Raises:
        ValueError: the numbers of points and descriptors differ.
    """
    if len(points0_N2) != len(described0_ND) or len(points1_M2) != len(described1_MD):
        raise ValueError(
            f"{len(described0_ND)} and {len(described1_MD)} descriptors of {len(points0_N2)} and "
            f"{len(points1_M2)} points"
        )
    if not len(points0_N2) or not len(points1_M2):
        return np.zeros((0, 4), np.float32)
    rows0_ND, rows1_MD = torch.from_numpy(described0_ND), torch.from_numpy(described1_MD)
    there_N = search(rows0_ND, rows1_MD).index_N.numpy()
    back_M = search(rows1_MD, rows0_ND).index_N.numpy()
    mutual_K = np.flatnonzero(back_M[there_N] == np.arange(len(points0_N2)))
    matches_K4: Floats = np.hstack([points0_N2[mutual_K], points1_M2[there_N[mutual_K]]])
    return matches_K4.astype(np.float32, copy=False)


def planar_errors(
    matches_K4: Floats,
    H_1_0: Doubles,
    size0: Size,
    estimators: Sequence[str],
    threshold_px: float,
    seeds: Sequence[int],
) -> PlanarErrors:
    """Measures keypoint matches, and the homographies estimated from them.

    Args:
        matches_K4: x0, y0, x1, y1 in pixels; may be empty.
        H_1_0: the true homography.
        size0: (width, height) of image 0.
        estimators: names in `ucn.evaluation.scores.estimators.HOMOGRAPHY_ESTIMATORS`.
        threshold_px: inlier threshold, pixels in image 1.
        seeds: random seeds; each estimate is repeated with each seed.

    Raises:
        ValueError: as in `ucn.evaluation.scores.homography.corner_error`.
    """
    return PlanarErrors(
        transfer_errors(matches_K4, H_1_0),
        {
            estimator: tuple(
                corner_error(
                    estimate_homography(matches_K4, estimator, threshold_px, seed), H_1_0, size0
                )
                for seed in seeds
            )
            for estimator in estimators
        },
    )
