"""Metrics over pairs: pooled PCK, and medians and areas under the curve of pose errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import Label
from ucn.evaluation.pair import PoseErrors
from ucn.evaluation.scores.bins import mean_over_parts, pck_by_label
from ucn.evaluation.scores.bootstrap import ratio_interval
from ucn.evaluation.scores.homography import (
    CORNER_THRESHOLDS,
    MMA_THRESHOLDS,
    corner_auc,
    mean_matching_accuracy,
)
from ucn.evaluation.scores.pck import (
    CURVE_THRESHOLDS,
    average_endpoint_error,
    hit_counts,
    pck,
    pck_over_pairs,
    relative_errors,
)
from ucn.evaluation.scores.planar import PlanarErrors
from ucn.evaluation.scores.pose import PoseError, pose_auc, pose_map
from ucn.evaluation.truth import PointFacts
from ucn.matching.descriptors import Floats

AUC_THRESHOLDS_DEG = (5, 10, 20)


@dataclass(frozen=True)
class MethodResult:
    """Result of one method on one pair.

    Attributes:
        errors_N: distances from the truth, pixels; infinite without a match.
        reciprocal: number of reciprocal matches.
        poses: pose errors by estimator, one per seed.
        sparse, scores: as in `ucn.evaluation.pair.MethodOnPair`.
    """

    errors_N: Floats
    reciprocal: int
    poses: PoseErrors
    sparse: Mapping[str, Floats] = field(default_factory=dict)
    scores: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True)
class PairResult:
    """Results of all methods on one pair.

    Attributes:
        index: index of the pair in its set.
        key, sequence: names of the pair and of its sequence.
        facts: attributes of its points.
        methods: results by name of the method.
        planar: planar errors by name of the method, if the pair has a known homography.
    """

    index: int
    key: str
    sequence: str
    facts: PointFacts
    methods: Mapping[str, MethodResult]
    planar: Mapping[str, PlanarErrors] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodSummary:
    """Results of one method over several pairs: a row of a table.

    Attributes:
        method: name of the method.
        metrics: ``pck/T``, ``pose/...`` and so on (docs/evaluation.md); percent and degrees.
        curve: PCK in percent at the thresholds `CURVE_THRESHOLDS`.
        pairs, points: numbers of evaluated pairs and points.
        reciprocal: percentage of reciprocal matches.
        posed: number of pairs with a known pose.
        standing: number of these pairs without translation, for which only rotation is scored.
    """

    method: str
    metrics: dict[str, float]
    curve: tuple[float, ...]
    pairs: int
    points: int
    reciprocal: float
    posed: int
    standing: int


def summarise(method: str, pairs: Sequence[PairResult], config: EvaluateConfig) -> MethodSummary:
    """Summarises one method over pairs.

    ``pck/T`` pools the points of all pairs. ``pck_over_pairs/T`` is the mean over pairs.
    ``pck_low/T`` and ``pck_high/T`` are the 95 % confidence interval of the pooled PCK, by
    bootstrap over the pairs. Pose scores are computed for each seed and averaged.
    ``pose/ESTIMATOR/auc_10_spread`` is the largest difference between seeds.

    Args:
        method: name of the method.
        pairs: at least one, with at least one point.
        config: configuration of the evaluation.
    """
    results = [pair.methods[method] for pair in pairs]
    errors_N = np.concatenate([result.errors_N for result in results])
    posed = [result.poses for result in results if result.poses]
    poses, standing = _pose_metrics(posed)
    metrics = (
        _pck_metrics([result.errors_N for result in results], config.thresholds)
        | _relative_metrics(method, pairs, config.alphas)
        | _sparse_metrics(results, config)
        | _planar_metrics([pair.planar[method] for pair in pairs if method in pair.planar])
        | poses
    )
    return MethodSummary(
        method=method,
        metrics=metrics,
        curve=tuple(pck(errors_N, CURVE_THRESHOLDS).tolist()),
        pairs=len(results),
        points=len(errors_N),
        reciprocal=100 * sum(result.reciprocal for result in results) / len(errors_N),
        posed=len(posed),
        standing=standing,
    )


def _pck_metrics(by_pair: Sequence[Floats], thresholds: Sequence[int]) -> dict[str, float]:
    """Pooled PCK with its interval, PCK over pairs, and median and mean error."""
    errors_N = np.concatenate(by_pair)
    metrics = _named_pck("pck", errors_N, thresholds)
    metrics["error_px_median"] = float(np.median(errors_N))
    if np.isfinite(errors_N).all():
        metrics["error_px_mean"] = average_endpoint_error(errors_N)
    hits_PT = np.stack([hit_counts(errors, thresholds) for errors in by_pair])
    counts_P = np.array([len(errors) for errors in by_pair])
    intervals_T2 = 100 * ratio_interval(hits_PT, counts_P, seed=0)
    over_pairs_T = pck_over_pairs(by_pair, thresholds)
    for rank, threshold in enumerate(thresholds):
        metrics[f"pck_low/{threshold}"], metrics[f"pck_high/{threshold}"] = intervals_T2[rank]
        metrics[f"pck_over_pairs/{threshold}"] = float(over_pairs_T[rank])
    return metrics


def _relative_metrics(
    method: str, pairs: Sequence[PairResult], alphas: Sequence[float]
) -> dict[str, float]:
    """``pck_L/ALPHA`` over the points, and its mean over the categories, for each length L."""
    metrics: dict[str, float] = {}
    for length in dict.fromkeys(name for pair in pairs for name in pair.facts.lengths):
        held = [pair for pair in pairs if length in pair.facts.lengths]
        relative = [
            relative_errors(pair.methods[method].errors_N, pair.facts.lengths[length])
            for pair in held
        ]
        pooled_N = np.concatenate(relative)
        labels = [name for pair in held for name in pair.facts.classes_N]
        metrics |= _named_pck(f"pck_{length}", pooled_N, alphas)
        means = mean_over_parts(list(pck_by_label(pooled_N, labels, alphas).values()))
        metrics |= {
            f"pck_{length}_over_classes/{alpha:g}": mean
            for alpha, mean in zip(alphas, means, strict=True)
        }
    return metrics


def _sparse_metrics(results: Sequence[MethodResult], config: EvaluateConfig) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for detector in config.sparse:
        errors_N = np.concatenate(
            [np.zeros(0), *(result.sparse[detector] for result in results if result.sparse)]
        )
        if len(errors_N):
            metrics |= _named_pck(f"sparse/{detector}/pck", errors_N, config.thresholds)
    return metrics


def _planar_metrics(pairs: Sequence[PlanarErrors]) -> dict[str, float]:
    """``mma/T``, and ``homography/ESTIMATOR/auc_T``; the first estimator also without its name."""
    if not pairs:
        return {}
    accuracy_T = mean_matching_accuracy([pair.transfer_errors_N for pair in pairs])
    metrics = {f"mma/{t}": float(v) for t, v in zip(MMA_THRESHOLDS, accuracy_T, strict=True)}
    for rank, estimator in enumerate(pairs[0].corner_errors):
        by_seed = list(zip(*(pair.corner_errors[estimator] for pair in pairs), strict=True))
        for threshold in CORNER_THRESHOLDS:
            area = _mean([corner_auc(errors, threshold) for errors in by_seed])
            metrics[f"homography/{estimator}/auc_{threshold}"] = area
            if rank == 0:
                metrics[f"homography/auc_{threshold}"] = area
    return metrics


def _named_pck(
    name: str, errors_N: NDArray[np.floating], thresholds: Sequence[float]
) -> dict[str, float]:
    values = pck(errors_N, thresholds)
    return {f"{name}/{t:g}": float(value) for t, value in zip(thresholds, values, strict=True)}


def _pose_metrics(posed: Sequence[PoseErrors]) -> tuple[dict[str, float], int]:
    """Pose scores by estimator, the first also without its name; number of static pairs."""
    metrics: dict[str, float] = {}
    standing = 0
    for rank, estimator in enumerate(posed[0] if posed else ()):
        figures = pose_figures([poses[estimator] for poses in posed])
        metrics |= {f"pose/{estimator}/{name}": value for name, value in figures.items()}
        if rank == 0:
            metrics |= {
                f"pose/{name}": value
                for name, value in figures.items()
                if not name.endswith("_spread")
            }
            standing = sum(poses[estimator][0].translation_deg is None for poses in posed)
    return metrics, standing


def pose_figures(errors: Sequence[Sequence[PoseError]]) -> dict[str, float]:
    """Medians and areas under the curve of pose errors, each averaged over the seeds.

    Pairs without translation count only for the rotation. If there are no other pairs, scores that
    need a translation are left out.

    Args:
        errors: for each pair, one error per seed.
    """
    by_seed = list(zip(*errors, strict=True))
    figures = {
        "rotation_deg_median": _mean(
            [float(np.median([error.rotation_deg for error in seed])) for seed in by_seed]
        )
    }
    moving = [
        [(e.rotation_deg, e.translation_deg) for e in seed if e.translation_deg is not None]
        for seed in by_seed
    ]
    if not moving[0]:
        return figures
    figures["translation_deg_median"] = _mean(
        [float(np.median([translation for _, translation in seed])) for seed in moving]
    )
    for threshold in AUC_THRESHOLDS_DEG:
        areas = [pose_auc([max(error) for error in seed], threshold) for seed in moving]
        precisions = [pose_map([max(error) for error in seed], threshold) for seed in moving]
        figures[f"map_{threshold}"] = _mean(precisions)
        figures[f"auc_{threshold}"] = _mean(areas)
        figures[f"auc_{threshold}_spread"] = max(areas) - min(areas)
    return figures


def named_metrics(
    methods: Sequence[MethodSummary], labels: Mapping[str, Label]
) -> dict[str, float]:
    """All metrics of one set of pairs, with their full names."""
    return {
        f"{labels[summary.method].prefix}{name}": value
        for summary in methods
        for name, value in summary.metrics.items()
    }


def summarise_set(
    results: Sequence[PairResult], config: EvaluateConfig
) -> tuple[list[MethodSummary], dict[str, list[MethodSummary]]]:
    """Summarises all methods over a whole set, and over each of its sequences in sorted order."""
    sequences: dict[str, list[PairResult]] = {}
    for result in sorted(results, key=lambda result: result.index):
        sequences.setdefault(result.sequence, []).append(result)

    def rows(pairs: Sequence[PairResult]) -> list[MethodSummary]:
        return [summarise(method, pairs, config) for method in pairs[0].methods]

    whole = rows([pair for pairs in sequences.values() for pair in pairs])
    return whole, {name: rows(sequences[name]) for name in sorted(sequences)}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
