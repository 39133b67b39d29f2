"""Evaluates one method on one image pair: errors of its matches, and of the resulting poses."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ucn.evaluation.config import EvaluateConfig, PoseConfig
from ucn.evaluation.methods.build import Method
from ucn.evaluation.methods.dense import (
    Extract,
    PointMatches,
    match_directly,
    match_features,
)
from ucn.evaluation.methods.filter_scores import filter_scores
from ucn.evaluation.scores.estimators import Doubles
from ucn.evaluation.scores.pck import match_errors
from ucn.evaluation.scores.planar import PlanarErrors, planar_figures
from ucn.evaluation.scores.pose import PoseError, median_parallax_px, sweep_thresholds
from ucn.evaluation.truth import Geometry, PairTruth
from ucn.matching.descriptors import Floats
from ucn.matching.features import Features
from ucn.matching.keypoints import detect
from ucn.matching.scales import nearest_at_any_scale
from ucn.preprocessing.sample import Sample

PoseErrors = Mapping[str, tuple[PoseError, ...]]
"""By estimator, one error per seed; ``ESTIMATOR/threshold_T`` for further inlier thresholds."""


@dataclass(frozen=True)
class MethodOnPair:
    """Result of one method on one pair.

    Attributes:
        matches_N4: float32 x0, y0, x1, y1 of the query points and their matches; NaN without a
            match.
        errors_N: float32 distance from the truth, pixels; infinite without a match.
        reciprocal_N: bool, whether each match is reciprocal.
        poses: pose errors by estimator; empty if the true pose is unknown.
        sparse: by detector, errors of the points that it sees.
        scores: by filter, one score per point, larger for better matches; empty if disabled.
    """

    matches_N4: Floats
    errors_N: Floats
    reciprocal_N: NDArray[np.bool_]
    poses: PoseErrors
    sparse: Mapping[str, Floats] = field(default_factory=dict)
    scores: Mapping[str, Floats] = field(default_factory=dict)


def evaluate_method(
    sample: Sample, truth: PairTruth, method: Method, config: EvaluateConfig, index: int
) -> MethodOnPair:
    """Matches the true points of image 0 to image 1 by one method, and measures the errors.

    PCK uses all points. The pose is estimated from the reciprocal matches.

    Args:
        truth: correspondences to evaluate, at least one.
        index: index of the pair; with the seed it determines the shifts of the stability filter.
    """
    asks_pose = truth.geometry is not None and bool(config.pose.estimators)
    matching = config.matching
    if not (asks_pose or config.filters):  # nothing needs the search back, which doubles the work
        matching = matching.model_copy(update={"reciprocity_px": 0.0})
    queries_N2 = truth.truth_N4[:, :2].copy()
    sparse: dict[str, Floats] = {}
    scores: Mapping[str, Floats] = {}
    if method.extract is not None:
        features0, features1 = method.extract(sample.image0), method.extract(sample.image1)
        found = match_features(features0, features1, queries_N2, matching)
        sparse = _sparse_errors(features0, features1, truth, config)
        if config.filters:
            rng = np.random.default_rng([config.seed, index])
            scores = filter_scores(features0, features1, queries_N2, found, matching, rng)
    elif method.match is not None:
        found = match_directly(sample.image0, sample.image1, queries_N2, method.match, matching)
        if config.filters and matching.reciprocity_px > 0:
            scores = {"reciprocity": -found.way_back_N}
    else:
        raise ValueError(f"{method.name} neither describes nor matches")
    return _measure(truth, found, sparse, scores, config)


def evaluate_planar(
    sample: Sample, H_1_0: Doubles, extract: Extract, config: EvaluateConfig
) -> PlanarErrors:
    """Matches the SIFT keypoints of a pair with a known homography by a descriptor.

    Args:
        H_1_0: the true homography.
    """
    points0_K2, points1_K2 = (
        detect(image, "sift", config.keypoints) for image in (sample.image0, sample.image1)
    )
    return planar_figures(
        points0_K2,
        points1_K2,
        extract(sample.image0).at(points0_K2),
        extract(sample.image1).at(points1_K2),
        H_1_0,
        (sample.image0.shape[1], sample.image0.shape[0]),
        config.pose.estimators,
        config.pose.homography_threshold_px,
        config.pose.seeds,
    )


def pair_moves(truth_N4: Floats, geometry: Geometry, config: PoseConfig) -> bool:
    """Whether the true translation is large enough for its direction to be meaningful."""
    if geometry.metric and np.linalg.norm(geometry.T_1_0[:3, 3]) < config.min_baseline_m:
        return False
    parallax = median_parallax_px(truth_N4, geometry.K0, geometry.K1, geometry.T_1_0)
    return parallax >= config.min_parallax_px


def _measure(
    truth: PairTruth,
    found: PointMatches,
    sparse: Mapping[str, Floats],
    scores: Mapping[str, Floats],
    config: EvaluateConfig,
) -> MethodOnPair:
    matches_N4 = np.concatenate([truth.truth_N4[:, :2], found.positions_N2], axis=1)
    poses: PoseErrors = {}
    if truth.geometry is not None and config.pose.estimators:
        moves = pair_moves(truth.truth_N4, truth.geometry, config.pose)
        poses = _pose_errors(
            matches_N4[found.reciprocal_N], truth.geometry, config.pose, moves=moves
        )
    errors_N = _errors(found.positions_N2, truth.truth_N4)
    return MethodOnPair(matches_N4, errors_N, found.reciprocal_N, poses, sparse, scores)


def _errors(positions_N2: Floats, truth_N4: Floats) -> Floats:
    """Errors in pixels; infinite for a point without a match."""
    errors_N = match_errors(positions_N2, truth_N4[:, 2:])
    return np.where(np.isnan(errors_N), np.float32(np.inf), errors_N)


def _sparse_errors(
    features0: Features, features1: Features, truth: PairTruth, config: EvaluateConfig
) -> dict[str, Floats]:
    """Errors of the points that each detector sees, matched to its keypoints in image 1."""
    queries_ND = features0.read(truth.truth_N4[:, :2])
    errors: dict[str, Floats] = {}
    for name, task in truth.sparse.items():
        positions_N2 = np.full((len(queries_ND), 2), np.nan, np.float32)
        if len(task.points1_K2):
            index_N, _, _ = nearest_at_any_scale(
                queries_ND,
                features1.read(task.points1_K2),
                features1.levels,
                config.matching.memory_mib,
            )
            positions_N2 = task.points1_K2[index_N.cpu().numpy()]
        errors[name] = _errors(positions_N2, truth.truth_N4)[task.asked_N]
    return errors


def _pose_errors(
    matches_N4: Floats, geometry: Geometry, config: PoseConfig, *, moves: bool
) -> PoseErrors:
    poses: dict[str, tuple[PoseError, ...]] = {}
    for estimator in config.estimators:
        swept = sweep_thresholds(
            matches_N4,
            geometry.K0,
            geometry.K1,
            geometry.T_1_0,
            estimator,
            config.thresholds_px,
            config.seeds,
            moves=moves,
        )
        for rank, (threshold, errors) in enumerate(swept.items()):
            poses[estimator if rank == 0 else f"{estimator}/threshold_{threshold:g}"] = errors
    return poses
