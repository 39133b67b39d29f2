"""Metrics over pairs: pooled PCK, and medians and areas under the curve of pose errors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.scores.bins import mean_over_parts, pck_by_label
from ucn.evaluation.scores.bootstrap import ratio_interval
from ucn.evaluation.scores.homography import (
    CORNER_THRESHOLDS,
    MMA_THRESHOLDS,
    corner_auc,
    mean_matching_accuracy,
)
from ucn.evaluation.scores.pck import (
    CURVE_ALPHAS,
    CURVE_THRESHOLDS,
    TABLE_ALPHA,
    answered_percent,
    average_endpoint_error,
    hit_counts,
    pck,
    pck_over_pairs,
    relative_errors,
)
from ucn.evaluation.scores.planar import PlanarErrors
from ucn.evaluation.scores.pose import PoseError, PoseErrors, pose_auc, pose_map
from ucn.evaluation.truth import PointFacts
from ucn.matching.descriptors import Floats

AUC_THRESHOLDS_DEG = (5, 10, 20)
OWN_MATCHES = "own_matches"


@dataclass(frozen=True)
class MethodResult:
    """Result of one method on one pair.

    Attributes:
        errors_N: distances from the truth, pixels; infinite without a match.
        reciprocal: number of reciprocal matches.
        poses: pose errors by estimator, one per seed.
        sparse: by detector, errors of the points that it sees.
        scores: by filter, one score per point, larger for better matches; empty if disabled.
        own: number of matches of the points that the method chose; None if it chooses none.
    """

    errors_N: Floats
    reciprocal: int
    poses: PoseErrors
    sparse: Mapping[str, Floats] = field(default_factory=dict)
    scores: Mapping[str, Floats] = field(default_factory=dict)
    own: int | None = None


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

    def errors(self, method: str, length: str = "") -> NDArray[np.floating]:
        """Errors of a method [N], in pixels, or relative to one of ``facts.lengths``."""
        errors_N = self.methods[method].errors_N
        return relative_errors(errors_N, self.facts.lengths[length]) if length else errors_N


@dataclass(frozen=True)
class MethodSummary:
    """Results of one method over several pairs: a row of a table.

    Attributes:
        method: name of the method.
        metrics: ``pck/T``, ``pose/...`` and so on (docs/evaluation.md); percent and degrees.
        curve: PCK in percent at the thresholds `CURVE_THRESHOLDS`.
        alpha_curves: by length, PCK in percent of the labelled keypoints at `CURVE_ALPHAS`.
        pairs, points: numbers of evaluated pairs and points.
        reciprocal: percentage of reciprocal matches.
        posed: number of pairs with a known pose.
        standing: number of these pairs without translation, for which only rotation is scored.
    """

    method: str
    metrics: dict[str, float]
    curve: tuple[float, ...]
    alpha_curves: Mapping[str, tuple[float, ...]]
    pairs: int
    points: int
    reciprocal: float
    posed: int
    standing: int


def reported_alphas(config: EvaluateConfig) -> list[float]:
    """The configured alphas and `TABLE_ALPHA`, in ascending order."""
    return sorted({*config.alphas, TABLE_ALPHA})


def known_lengths(pairs: Iterable[PairResult]) -> list[str]:
    """Names of the lengths that at least one pair has; empty without labelled keypoints."""
    return list(dict.fromkeys(name for pair in pairs for name in pair.facts.lengths))


def summarise(method: str, pairs: Sequence[PairResult], config: EvaluateConfig) -> MethodSummary:
    """Summarises one method over pairs.

    ``pck/T`` pools the points of all pairs. ``pck_over_pairs/T`` is the mean over pairs.
    ``pck_low/T`` and ``pck_high/T`` are the 95 % confidence interval of the pooled PCK, by
    bootstrap over the pairs. ``pck_L/ALPHA`` pools the points of the pairs with length L;
    ``pck_L_over_classes/ALPHA`` is the mean over classes. ``error_px_median`` and
    ``error_px_mean`` are left out where they are infinite. ``own_matches`` is the mean number of
    matches a pair, for a method that chooses its points on every pair. Pose scores are computed
    for each seed and averaged. ``pose/ESTIMATOR/auc_10_spread`` is the largest difference between
    seeds.

    Args:
        method: name of the method.
        pairs: at least one, with at least one point.
        config: configuration of the evaluation.
    """
    results = [pair.methods[method] for pair in pairs]
    by_pair = [result.errors_N for result in results]
    errors_N = np.concatenate(by_pair)
    metrics = _pooled_pck("pck", by_pair, config.thresholds)
    metrics |= _named(
        "pck_over_pairs", pck_over_pairs(by_pair, config.thresholds), config.thresholds
    )
    metrics["answered"] = answered_percent(errors_N)
    if np.isfinite(median := float(np.median(errors_N))):
        metrics["error_px_median"] = median
    if np.isfinite(errors_N).all():
        metrics["error_px_mean"] = average_endpoint_error(errors_N)
    own = [result.own for result in results if result.own is not None]
    if len(own) == len(results):
        metrics[OWN_MATCHES] = _mean(own)
    alpha_curves: dict[str, tuple[float, ...]] = {}
    for length in known_lengths(pairs):
        labelled = [pair for pair in pairs if length in pair.facts.lengths]
        relative = [pair.errors(method, length) for pair in labelled]
        pooled_N, alphas = np.concatenate(relative), reported_alphas(config)
        labels_N = [name for pair in labelled for name in pair.facts.classes_N]
        metrics |= _pooled_pck(f"pck_{length}", relative, alphas)
        classes = list(pck_by_label(pooled_N, labels_N, alphas).values())
        metrics |= _named(f"pck_{length}_over_classes", mean_over_parts(classes), alphas)
        alpha_curves[length] = tuple(pck(pooled_N, CURVE_ALPHAS).tolist())
    metrics |= _sparse_metrics(results, config)
    metrics |= _planar_metrics([pair.planar[method] for pair in pairs if method in pair.planar])
    posed = [result.poses for result in results if result.poses]
    poses, standing = _pose_metrics(posed)
    return MethodSummary(
        method=method,
        metrics=metrics | poses,
        curve=tuple(pck(errors_N, CURVE_THRESHOLDS).tolist()),
        alpha_curves=alpha_curves,
        pairs=len(results),
        points=len(errors_N),
        reciprocal=100 * sum(result.reciprocal for result in results) / len(errors_N),
        posed=len(posed),
        standing=standing,
    )


def _pooled_pck(
    name: str, by_pair: Sequence[NDArray[np.floating]], thresholds: Sequence[float]
) -> dict[str, float]:
    """Pooled PCK ``NAME/T``, and its interval from ``NAME_low/T`` to ``NAME_high/T``."""
    hits_PT = np.stack([hit_counts(errors_N, thresholds) for errors_N in by_pair])
    counts_P = np.array([len(errors_N) for errors_N in by_pair])
    low_T, high_T = 100 * ratio_interval(hits_PT, counts_P, seed=0).T
    return (
        _named(name, pck(np.concatenate(by_pair), thresholds), thresholds)
        | _named(f"{name}_low", low_T, thresholds)
        | _named(f"{name}_high", high_T, thresholds)
    )


def _named(name: str, values_T: Iterable[float], thresholds: Sequence[float]) -> dict[str, float]:
    return {f"{name}/{t:g}": float(v) for t, v in zip(thresholds, values_T, strict=True)}


def _sparse_metrics(results: Sequence[MethodResult], config: EvaluateConfig) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for detector in config.sparse:
        errors_N = np.concatenate(
            [np.zeros(0), *(result.sparse[detector] for result in results if result.sparse)]
        )
        if len(errors_N):
            percent_T = pck(errors_N, config.thresholds)
            metrics |= _named(f"sparse/{detector}/pck", percent_T, config.thresholds)
    return metrics


def _planar_metrics(pairs: Sequence[PlanarErrors]) -> dict[str, float]:
    """``mma/T``, and ``homography/ESTIMATOR/auc_T``; the first estimator also without its name."""
    if not pairs:
        return {}
    accuracy_T = mean_matching_accuracy([pair.transfer_errors_N for pair in pairs])
    metrics = _named("mma", accuracy_T, MMA_THRESHOLDS)
    for rank, estimator in enumerate(pairs[0].corner_errors):
        by_seed = list(zip(*(pair.corner_errors[estimator] for pair in pairs), strict=True))
        for threshold in CORNER_THRESHOLDS:
            area = _mean([corner_auc(errors, threshold) for errors in by_seed])
            metrics[f"homography/{estimator}/auc_{threshold}"] = area
            if rank == 0:
                metrics[f"homography/auc_{threshold}"] = area
    return metrics


def _pose_metrics(posed: Sequence[PoseErrors]) -> tuple[dict[str, float], int]:
    """Pose scores by estimator, the first also without its name; number of static pairs.

    Those of further queries are named ``pose_QUERIES/...``.
    """
    metrics: dict[str, float] = {}
    leading: dict[str, str] = {}
    for key in posed[0] if posed else ():
        queries, _, estimator = key.rpartition(":")
        place = f"pose_{queries}" if queries else "pose"
        figures = pose_figures([poses[key] for poses in posed])
        metrics |= {f"{place}/{estimator}/{name}": value for name, value in figures.items()}
        if leading.setdefault(place, key) == key:
            metrics |= {
                f"{place}/{name}": value
                for name, value in figures.items()
                if not name.endswith("_spread")
            }
    standing = sum(poses[leading["pose"]][0].translation_deg is None for poses in posed)
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


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
