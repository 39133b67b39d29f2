"""One image pair, one descriptor: errors of its matches and of the poses they give."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.config import EvaluateConfig, PoseConfig
from evaluation.descriptors import Describe, Floats
from evaluation.estimators import Doubles
from evaluation.matching import match_points
from evaluation.pck import match_errors
from evaluation.pose import PoseError, estimate_pose, median_parallax_px, pose_error
from preprocessing.sample import Sample


@dataclass(frozen=True)
class MethodOnPair:
    """How one method did on one pair.

    Attributes:
        matches_N4: float32, the query points and what they were matched to.
        errors_N: float32 pixels from the truth.
        reciprocal_N: bool.
        poses: errors by estimator, one a seed; empty where the pair has no known pose.
    """

    matches_N4: Floats
    errors_N: Floats
    reciprocal_N: NDArray[np.bool_]
    poses: Mapping[str, tuple[PoseError, ...]]


@dataclass(frozen=True)
class Geometry:
    """The truth about a rigid pair: intrinsics, pose, and whether its unit is the metre."""

    K0: Doubles
    K1: Doubles
    T_1_0: Doubles
    metric: bool


def choose_points(truth_N4: Floats, count: int, seed: int, index: int) -> Floats:
    """Draw at most ``count`` true correspondences of pair ``index``, without repetition.

    Depends on the seed and the index alone, so that every method is asked for the same points.
    """
    if len(truth_N4) <= count:
        return truth_N4
    order_N = np.random.default_rng([seed, index]).permutation(len(truth_N4))
    return truth_N4[np.sort(order_N[:count])]


def known_geometry(sample: Sample) -> Geometry | None:
    """Read the intrinsics and the relative pose of a rigid pair; None where they are not known."""
    known = [sample.metadata.get(name) for name in ("K0", "K1", "T_1_0")]
    if sample.metadata.get("kind") != "rigid" or any(value is None for value in known):
        return None
    K0, K1, T_1_0 = (np.asarray(value, np.float64) for value in known)
    return Geometry(K0, K1, T_1_0, sample.metadata.get("unit") == "metre")


def pair_moves(truth_N4: Floats, geometry: Geometry, config: PoseConfig) -> bool:
    """Whether the true translation is large enough to have a direction."""
    if geometry.metric and np.linalg.norm(geometry.T_1_0[:3, 3]) < config.min_baseline_m:
        return False
    parallax = median_parallax_px(truth_N4, geometry.K0, geometry.K1, geometry.T_1_0)
    return parallax >= config.min_parallax_px


def evaluate_method(
    sample: Sample, truth_N4: Floats, describe: Describe, config: EvaluateConfig
) -> MethodOnPair:
    """Match true points of image 0 into image 1 by one descriptor, and measure the matches.

    PCK counts every point; the pose is estimated from the reciprocal matches.

    Args:
        truth_N4: the correspondences asked for, at least one.
    """
    geometry = known_geometry(sample) if config.pose.estimators else None
    matching = config.matching
    if geometry is None:  # only the pose needs the search back, which doubles the work
        matching = matching.model_copy(update={"reciprocity_px": 0.0})
    queries_N2 = truth_N4[:, :2].copy()
    found = match_points(sample.image0, sample.image1, queries_N2, describe, matching)
    matches_N4 = np.concatenate([queries_N2, found.positions_N2], axis=1)
    poses: dict[str, tuple[PoseError, ...]] = {}
    if geometry is not None:
        moves = pair_moves(truth_N4, geometry, config.pose)
        poses = _pose_errors(matches_N4[found.reciprocal_N], geometry, config.pose, moves=moves)
    return MethodOnPair(
        matches_N4, match_errors(found.positions_N2, truth_N4[:, 2:]), found.reciprocal_N, poses
    )


def _pose_errors(
    matches_N4: Floats, geometry: Geometry, config: PoseConfig, *, moves: bool
) -> dict[str, tuple[PoseError, ...]]:
    K0, K1 = geometry.K0, geometry.K1
    return {
        estimator: tuple(
            pose_error(
                estimate_pose(matches_N4, K0, K1, estimator, config.threshold_px, seed),
                geometry.T_1_0,
                moves=moves,
            )
            for seed in config.seeds
        )
        for estimator in config.estimators
    }
