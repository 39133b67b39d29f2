"""Scores one method on one pair from its stored matches. Nothing is matched here."""

from collections.abc import Mapping

import numpy as np

from ucn.arrays import Bools
from ucn.evaluation.config import EvaluateConfig, PoseConfig
from ucn.evaluation.matches import MUTUAL, OWN, POINT, Matches, PairMatches
from ucn.evaluation.report.summary import MethodResult
from ucn.evaluation.scores.pck import match_errors
from ucn.evaluation.scores.planar import PlanarErrors, planar_errors
from ucn.evaluation.scores.pose import PoseError, PoseErrors, median_parallax_px, sweep_thresholds
from ucn.evaluation.truth import Geometry, PairTruth
from ucn.matching.descriptors import Floats
from ucn.matching.filters import unit_distances
from ucn.preprocessing.sample import Sample


def score_method(truth: PairTruth, found: PairMatches, config: EvaluateConfig) -> MethodResult:
    """Measures the matches of a method.

    PCK uses all points. The pose is estimated from the reciprocal matches.

    Args:
        truth: the evaluated correspondences.
        found: matches of the method; those of `POINT` are in the order of ``truth.truth_N4``.
        config: configuration of the evaluation.
    """
    points = found[POINT]
    return MethodResult(
        errors_N=match_errors(points.matches_N4[:, 2:], truth.truth_N4[:, 2:]),
        reciprocal=int(reciprocal(points, config.matching.reciprocity_px).sum()),
        poses=_pose_errors(truth, found, config),
        sparse=_sparse_errors(truth, found),
        scores=filter_scores(points) if config.filters else {},
        own=len(found[OWN].matches_N4) if OWN in found else None,
    )


def score_planar(sample: Sample, found: PairMatches, config: EvaluateConfig) -> PlanarErrors | None:
    """Errors on a pair with a known homography; None without keypoint matches or homography."""
    H_1_0 = sample.metadata.get("H_1_0")
    matches = found.get(MUTUAL, found.get(OWN))
    if H_1_0 is None or matches is None:
        return None
    return planar_errors(
        matches.matches_N4,
        np.asarray(H_1_0, np.float64),
        (sample.image0.shape[1], sample.image0.shape[0]),
        config.pose.estimators,
        config.pose.homography_threshold_px,
        config.pose.seeds,
    )


def reciprocal(matches: Matches, radius_px: float) -> Bools:
    """Whether each point has a match whose forward-backward error is at most the radius.

    A radius of 0 accepts all matches, as does an error that was not computed.
    """
    is_found_N = np.asarray(np.isfinite(matches.matches_N4).all(axis=1))
    return is_found_N & ~np.greater(matches.back_px_N, radius_px or np.inf)


def filter_scores(points: Matches) -> dict[str, Floats]:
    """Scores of the match filters for which the matches have values; larger is better.

    Returns:
        ``similarity``: cosine similarity. ``ratio``: negative ratio of the distances to the nearest
        and the second nearest, 1 for equal distances. ``reciprocity``, ``stability``: negative
        forward-backward error, pixels.
    """
    nearest_N, second_N = unit_distances(points.similarity_N), unit_distances(points.second_N)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio_N = np.where(nearest_N >= second_N, 1, nearest_N / second_N).astype(np.float32)
    scores = {
        "similarity": points.similarity_N,
        "ratio": -ratio_N,
        "reciprocity": -points.back_px_N,
        "stability": -points.stability_px_N,
    }
    return {name: scores_N for name, scores_N in scores.items() if not np.isnan(scores_N).any()}


def pair_moves(truth_N4: Floats, geometry: Geometry, config: PoseConfig) -> bool:
    """Whether the true translation is large enough for its direction to be meaningful."""
    if geometry.metric and np.linalg.norm(geometry.T_1_0[:3, 3]) < config.min_baseline_m:
        return False
    parallax = median_parallax_px(truth_N4, geometry.K0, geometry.K1, geometry.T_1_0)
    return parallax >= config.min_parallax_px


def _sparse_errors(truth: PairTruth, found: PairMatches) -> Mapping[str, Floats]:
    """Errors by detector; empty for a method without descriptors."""
    return {
        name: match_errors(
            found[f"sparse/{name}"].matches_N4[:, 2:], truth.truth_N4[task.asked_N, 2:]
        )
        for name, task in truth.sparse.items()
        if f"sparse/{name}" in found
    }


def _pose_errors(truth: PairTruth, found: PairMatches, config: EvaluateConfig) -> PoseErrors:
    """Errors by estimator; those of further queries start with ``QUERIES:``."""
    geometry, pose = truth.geometry, config.pose
    if geometry is None or not pose.estimators:
        return {}
    moves = pair_moves(truth.truth_N4, geometry, pose)
    by_kind: dict[str, PoseErrors] = {}
    poses: dict[str, tuple[PoseError, ...]] = {}
    for rank, queries in enumerate(config.matching.pose_queries):
        kind = OWN if OWN in found else POINT if queries == "stored" else queries
        if kind not in by_kind:
            is_used_N = reciprocal(found[kind], config.matching.reciprocity_px)
            by_kind[kind] = sweep_thresholds(
                found[kind].matches_N4[is_used_N],
                geometry.K0,
                geometry.K1,
                geometry.T_1_0,
                pose.estimators,
                pose.thresholds_px,
                pose.seeds,
                moves=moves,
            )
        prefix = f"{queries}:" if rank else ""
        poses |= {f"{prefix}{name}": errors for name, errors in by_kind[kind].items()}
    return poses
