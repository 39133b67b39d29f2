"""From pairs to figures: pooled PCK, medians and areas of pose errors, under their metric names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.bootstrap import ratio_interval
from evaluation.descriptors import Floats
from evaluation.pck import (
    CURVE_THRESHOLDS,
    average_endpoint_error,
    hit_counts,
    pck,
    pck_over_pairs,
)
from evaluation.pose import PoseError, pose_auc, pose_map

AUC_THRESHOLDS_DEG = (5, 10, 20)
UCN = "ucn"
"""Name of the trained model among the methods; the others are baselines."""


@dataclass(frozen=True)
class MethodResult:
    """What is kept of one method on one pair: errors in pixels, and of poses by estimator."""

    errors_N: Floats
    reciprocal: int
    poses: Mapping[str, tuple[PoseError, ...]]


@dataclass(frozen=True)
class PairResult:
    """All methods on one pair.

    Attributes:
        index: number of the pair in its set.
        key, sequence: names of the pair and of its sequence.
        methods: by name of the method.
    """

    index: int
    key: str
    sequence: str
    methods: Mapping[str, MethodResult]


@dataclass(frozen=True)
class MethodSummary:
    """One method over some pairs: a row of a table.

    Attributes:
        method: its name.
        metrics: ``pck/T``, ``pose/...`` and ``pose/ESTIMATOR/...``; percent and degrees.
        curve: PCK in percent at the thresholds `CURVE_THRESHOLDS`.
        pairs, points: how many were matched.
        reciprocal: share of matches that the search back confirms, percent.
        posed: pairs with a known pose; ``standing`` of them have no translation to score.
    """

    method: str
    metrics: dict[str, float]
    curve: tuple[float, ...]
    pairs: int
    points: int
    reciprocal: float
    posed: int
    standing: int


def summarise(
    method: str, results: Sequence[MethodResult], thresholds: Sequence[int]
) -> MethodSummary:
    """Sum one method up over pairs.

    PCK and the median and mean errors pool the points of all pairs; ``pck_over_pairs/T`` lets pairs
    count alike; ``pck_low/T`` and ``pck_high/T`` are the 95 % interval of the pooled PCK, by
    bootstrap over the pairs. Pose figures are computed once for each
    seed and averaged; ``pose/ESTIMATOR/auc_10_spread`` is their largest difference between seeds.

    Args:
        results: one a pair, at least one, with at least one point.
    """
    errors_N = np.concatenate([result.errors_N for result in results])
    metrics = {
        f"pck/{threshold}": float(value)
        for threshold, value in zip(thresholds, pck(errors_N, thresholds), strict=True)
    }
    metrics["error_px_median"] = float(np.median(errors_N))
    metrics["error_px_mean"] = average_endpoint_error(errors_N)
    by_pair = [result.errors_N for result in results]
    hits_PT = np.stack([hit_counts(errors, thresholds) for errors in by_pair])
    counts_P = np.array([len(errors) for errors in by_pair])
    intervals_T2 = 100 * ratio_interval(hits_PT, counts_P, seed=0)
    over_pairs_T = pck_over_pairs(by_pair, thresholds)
    for rank, threshold in enumerate(thresholds):
        metrics[f"pck_low/{threshold}"], metrics[f"pck_high/{threshold}"] = intervals_T2[rank]
        metrics[f"pck_over_pairs/{threshold}"] = float(over_pairs_T[rank])
    posed = [result.poses for result in results if result.poses]
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


def pose_figures(errors: Sequence[Sequence[PoseError]]) -> dict[str, float]:
    """Medians and areas under the curve of pose errors, each the mean over the seeds.

    Pairs that stand still count in the rotation only; without any other pair the figures that need
    a translation are absent.

    Args:
        errors: for each pair, one error a seed.
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


def metric_prefix(method: str) -> str:
    """Where a method's metrics are filed: at the top for the model, else ``baseline/NAME/``."""
    return "" if method == UCN else f"baseline/{method}/"


def named_metrics(methods: Sequence[MethodSummary]) -> dict[str, float]:
    """All metrics of one set of pairs under their full names."""
    return {
        f"{metric_prefix(summary.method)}{name}": value
        for summary in methods
        for name, value in summary.metrics.items()
    }


def summarise_set(
    results: Sequence[PairResult], thresholds: Sequence[int]
) -> tuple[list[MethodSummary], dict[str, list[MethodSummary]]]:
    """Sum all methods up over a whole set and over each of its sequences, in sorted order."""
    sequences: dict[str, list[PairResult]] = {}
    for result in sorted(results, key=lambda result: result.index):
        sequences.setdefault(result.sequence, []).append(result)

    def rows(pairs: Sequence[PairResult]) -> list[MethodSummary]:
        return [
            summarise(method, [pair.methods[method] for pair in pairs], thresholds)
            for method in pairs[0].methods
        ]

    whole = rows([pair for pairs in sequences.values() for pair in pairs])
    return whole, {name: rows(sequences[name]) for name in sorted(sequences)}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
