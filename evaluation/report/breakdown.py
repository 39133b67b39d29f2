"""Breakdown of a set's points by displacement, depth and class, and by match filters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.filter_scores import FILTERS
from ucn.evaluation.report.summary import PairResult
from ucn.evaluation.scores.bins import PartPck, pck_by_bin, pck_by_label
from ucn.evaluation.scores.estimators import Doubles
from ucn.evaluation.scores.pck import pck
from ucn.matching.descriptors import Floats
from ucn.matching.filters import PrecisionRecall, precision_recall


@dataclass(frozen=True)
class Breakdown:
    """PCK of a set's points, split by one attribute.

    Attributes:
        quantity: the attribute: ``displacement``, ``depth`` or ``class``.
        parts: PCK by title of the subset, then by method.
    """

    quantity: str
    parts: Mapping[str, Mapping[str, PartPck]]


def breakdowns(results: Sequence[PairResult], config: EvaluateConfig) -> list[Breakdown]:
    """Splits the points by every attribute that the set has. Empty subsets are left out.

    Args:
        results: results of all pairs of the set.
        config: configuration of the evaluation.
    """
    displacement_N = np.concatenate([pair.facts.displacement_N for pair in results])
    depth_N = np.concatenate([pair.facts.depth_N for pair in results])
    labels_N = [
        label
        for pair in results
        for label in (pair.facts.classes_N or ("",) * len(pair.facts.displacement_N))
    ]

    def part(by: Callable[[Floats], Mapping[str, PartPck]]) -> dict[str, dict[str, PartPck]]:
        found: dict[str, dict[str, PartPck]] = {}
        for method in results[0].methods:
            errors_N = np.concatenate([pair.methods[method].errors_N for pair in results])
            for title, one in by(errors_N).items():
                found.setdefault(title, {})[method] = one
        return found

    def binned(
        values_N: Doubles, inner_edges: Sequence[float], unit: str
    ) -> dict[str, dict[str, PartPck]]:
        edges = (0, *inner_edges, np.inf)
        return part(
            lambda errors_N: _titled(pck_by_bin(errors_N, values_N, edges, config.thresholds), unit)
        )

    every = {
        "displacement": binned(displacement_N, config.displacement_bins_px, "px"),
        "depth": binned(depth_N, config.depth_bins_m, "m"),
        "class": part(lambda errors_N: _named(pck_by_label(errors_N, labels_N, config.thresholds))),
    }
    return [Breakdown(quantity, parts) for quantity, parts in every.items() if parts]


def filter_curves(
    results: Sequence[PairResult], threshold_px: float
) -> dict[str, dict[str, PrecisionRecall]]:
    """Precision and recall of each filter over all matches of a set, by method and filter.

    Args:
        results: results of all pairs of the set.
        threshold_px: largest error of a correct match, pixels.

    Returns:
        Curves of the methods that have scores and at least one correct match.
    """
    curves: dict[str, dict[str, PrecisionRecall]] = {}
    for method in results[0].methods:
        found = [pair.methods[method] for pair in results]
        errors_N = np.concatenate([one.errors_N for one in found])
        if not (errors_N <= threshold_px).any():
            continue
        for name in FILTERS:
            if all(name in one.scores for one in found):
                scores_N = np.concatenate([one.scores[name] for one in found])
                curve = precision_recall(errors_N, scores_N, threshold_px)
                curves.setdefault(method, {})[name] = curve
    return curves


def sparse_bounds(
    results: Sequence[PairResult], thresholds: Sequence[float]
) -> dict[str, tuple[int, tuple[float, ...]]]:
    """By detector, the number of points that it sees, and the PCK of a perfect matcher."""
    bounds: dict[str, tuple[int, tuple[float, ...]]] = {}
    for detector in results[0].facts.bounds:
        nearest_N = np.concatenate([pair.facts.bounds[detector] for pair in results])
        if len(nearest_N):
            bounds[detector] = (len(nearest_N), tuple(pck(nearest_N, thresholds).tolist()))
    return bounds


def _titled(parts: Mapping[tuple[float, float], PartPck], unit: str) -> Mapping[str, PartPck]:
    return {
        f"over {low:g} {unit}" if np.isinf(high) else f"{low:g} to {high:g} {unit}": one
        for (low, high), one in parts.items()
    }


def _named(parts: Mapping[str, PartPck]) -> Mapping[str, PartPck]:
    """Removes the points without a class."""
    return {label: one for label, one in parts.items() if label}
