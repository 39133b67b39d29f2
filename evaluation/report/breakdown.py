"""Breakdown of a set's points by displacement, depth and class, and by match filters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.report.summary import PairResult, known_lengths, reported_alphas
from ucn.evaluation.scores.bins import PartPck, pck_by_bin, pck_by_label
from ucn.evaluation.scores.estimators import Doubles
from ucn.evaluation.scores.pck import Criterion, pck
from ucn.matching.filters import FILTERS, PrecisionRecall, precision_recall


@dataclass(frozen=True)
class Breakdown:
    """PCK of a set's points, split by one attribute.

    Attributes:
        quantity: the attribute: ``displacement``, ``depth`` or ``class``.
        metric: ``pck``, or ``pck_L`` relative to a length L.
        thresholds: thresholds of the PCK, pixels or alphas.
        parts: PCK by title of the subset, then by method.
    """

    quantity: str
    metric: str
    thresholds: Sequence[float]
    parts: Mapping[str, Mapping[str, PartPck]]


def breakdowns(results: Sequence[PairResult], config: EvaluateConfig) -> list[Breakdown]:
    """Splits the points by every attribute that the set has. Empty subsets are left out.

    Labelled keypoints are also split by class at the reported alphas of each length.

    Args:
        results: results of all pairs of the set.
        config: configuration of the evaluation.
    """

    def binned(quantity: str, values_N: Doubles, edges: Sequence[float], unit: str) -> Breakdown:
        limits = (0, *edges, np.inf)
        parts = _split(
            results,
            "",
            lambda errors_N: _titled(
                pck_by_bin(errors_N, values_N, limits, config.thresholds), unit
            ),
        )
        return Breakdown(quantity, "pck", config.thresholds, parts)

    def by_class(pairs: Sequence[PairResult], length: str) -> Breakdown:
        labels_N = [label for pair in pairs for label in _labels(pair)]
        thresholds = reported_alphas(config) if length else config.thresholds
        parts = _split(
            pairs, length, lambda errors_N: _named(pck_by_label(errors_N, labels_N, thresholds))
        )
        return Breakdown("class", Criterion(0, length).metric, thresholds, parts)

    displacement_N = np.concatenate([pair.facts.displacement_N for pair in results])
    depth_N = np.concatenate([pair.facts.depth_N for pair in results])
    every = [
        binned("displacement", displacement_N, config.displacement_bins_px, "px"),
        binned("depth", depth_N, config.depth_bins_m, "m"),
        by_class(results, ""),
        *(
            by_class([pair for pair in results if length in pair.facts.lengths], length)
            for length in known_lengths(results)
        ),
    ]
    return [breakdown for breakdown in every if breakdown.parts]


def filter_curves(
    results: Sequence[PairResult], criterion: Criterion
) -> dict[str, dict[str, PrecisionRecall]]:
    """Precision and recall of each filter over all matches of a set, by method and filter.

    Args:
        results: results of all pairs of the set.
        criterion: condition under which a match is correct.

    Returns:
        Curves of the methods that have scores; none for a method without a correct match.
    """
    curves: dict[str, dict[str, PrecisionRecall]] = {}
    for method in results[0].methods:
        found = [pair.methods[method] for pair in results]
        errors_N = np.concatenate([pair.errors(method, criterion.length) for pair in results])
        for name in FILTERS:
            if not all(name in one.scores for one in found):
                continue
            of_method = curves.setdefault(method, {})
            if (errors_N <= criterion.threshold).any():
                scores_N = np.concatenate([one.scores[name] for one in found])
                of_method[name] = precision_recall(errors_N, scores_N, criterion.threshold)
    return curves


def sparse_bounds(
    results: Sequence[PairResult], thresholds: Sequence[float]
) -> dict[str, tuple[int, tuple[float, ...]]]:
    """By detector, the number of points that it sees, and the PCK of a perfect matcher.

    The PCK of a detector that sees no point is empty.
    """
    bounds: dict[str, tuple[int, tuple[float, ...]]] = {}
    for detector in results[0].facts.bounds:
        nearest_N = np.concatenate([pair.facts.bounds[detector] for pair in results])
        percent = tuple(pck(nearest_N, thresholds).tolist()) if len(nearest_N) else ()
        bounds[detector] = (len(nearest_N), percent)
    return bounds


def _split(
    pairs: Sequence[PairResult],
    length: str,
    by: Callable[[NDArray[np.floating]], Mapping[str, PartPck]],
) -> dict[str, dict[str, PartPck]]:
    """PCK by title of the subset and by method."""
    found: dict[str, dict[str, PartPck]] = {}
    for method in pairs[0].methods:
        for title, part in by(np.concatenate([p.errors(method, length) for p in pairs])).items():
            found.setdefault(title, {})[method] = part
    return found


def _labels(pair: PairResult) -> Sequence[str]:
    return pair.facts.classes_N or ("",) * len(pair.facts.displacement_N)


def _titled(parts: Mapping[tuple[float, float], PartPck], unit: str) -> Mapping[str, PartPck]:
    return {
        f"over {low:g} {unit}" if np.isinf(high) else f"{low:g} to {high:g} {unit}": one
        for (low, high), one in parts.items()
    }


def _named(parts: Mapping[str, PartPck]) -> Mapping[str, PartPck]:
    """Removes the points without a class."""
    return {label: one for label, one in parts.items() if label}
