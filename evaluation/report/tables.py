"""Tables of the report, as text cells. The page and the Markdown file show the same tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ucn.errors import counted
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import method_labels
from ucn.evaluation.report.breakdown import Breakdown
from ucn.evaluation.report.set_report import SetReport
from ucn.evaluation.report.summary import (
    AUC_THRESHOLDS_DEG,
    OWN_MATCHES,
    MethodSummary,
    reported_alphas,
)
from ucn.evaluation.scores.homography import CORNER_THRESHOLDS
from ucn.evaluation.scores.pck import LENGTHS, Criterion

DASH = "–"
QUERIES = {
    "stored": "stored points",
    "sift": "SIFT keypoints",
    "fast": "FAST keypoints",
    "corners": "corners",
    "grid": "grid points",
}
"""Titles of the queries of the pose."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        title: its first cell.
        cells: its other cells; none if the title spans the row.
        best: for each cell, whether it is the best of the compared ones; empty for no comparison.
        method: name of the method, for its colour; empty for other rows.
        kind: ``published`` for published results, ``mean`` for a mean over the rows above.
    """

    title: str
    cells: Sequence[str] = ()
    best: Sequence[bool] = ()
    method: str = ""
    kind: Literal["", "published", "mean"] = ""


@dataclass(frozen=True)
class Table:
    """A table: the headings of all its columns, and its rows."""

    headings: Sequence[str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Column:
    """A metric as a column. ``larger_is_better`` is None where no value is the best."""

    metric: str
    heading: str
    digits: int = 1
    unit: str = " %"
    larger_is_better: bool | None = True

    def cell(self, metrics: Mapping[str, float]) -> str:
        """Formats the value of a row; a dash if the metric is missing."""
        value = metrics.get(self.metric)
        return DASH if value is None else f"{value:.{self.digits}f}{self.unit}"

    def best(self, methods: Sequence[MethodSummary]) -> list[bool]:
        """Whether each row has the best value, as rounded."""
        values = [row.metrics.get(self.metric) for row in methods]
        return _best(values, self.digits, self.larger_is_better)


def main_table(one: SetReport, config: EvaluateConfig) -> Table:
    """All methods with their main metrics, missing methods, and published results."""
    shown = main_columns(one, config)
    missing = [Row(f"{label.title}: {label.reason}") for label in one.missing]
    published = [
        Row(title, [column.cell(metrics) for column in shown], kind="published")
        for title, metrics in one.published.items()
        if any(column.metric in metrics for column in shown)
    ]
    return _method_table(shown, [*_method_rows(one, one.methods, shown), *missing, *published])


def main_columns(one: SetReport, config: EvaluateConfig) -> list[Column]:
    """Columns of the main table, for metrics that at least one row has.

    A set of labelled keypoints has PCK at alpha instead of PCK and errors in pixels.
    """
    every = []
    if any(row.metrics["answered"] < 100 for row in one.methods):
        every += [Column("answered", "answered", larger_is_better=None)]
    every += [Column(OWN_MATCHES, "own matches a pair", 0, "", None)]
    if not one.criterion.length:
        every += [Column(f"pck/{t}", f"PCK@{t}") for t in config.thresholds]
    if one.length:
        every += _alpha_columns(one.length, config)
    if not one.criterion.length:
        every += [Column("error_px_median", "median error", 1, " px", False)]
    every += [Column(f"mma/{t}", f"MMA@{t}") for t in (1, 3, 5, 10)]
    every += [Column(f"homography/auc_{t}", f"corner AUC@{t}") for t in CORNER_THRESHOLDS]
    every += [
        Column("pose/rotation_deg_median", "rotation", 2, "°", False),
        Column("pose/translation_deg_median", "translation", 2, "°", False),
        *(Column(f"pose/auc_{t}", f"AUC@{t}°") for t in AUC_THRESHOLDS_DEG),
    ]
    return _shown(every, one.methods)


def class_table(one: SetReport) -> Table:
    """PCK of each class of labelled keypoints at `TABLE_ALPHA`, percent, and its mean."""
    criterion = one.class_criterion
    by_class = next(found for found in one.breakdowns if found.metric == criterion.metric)
    place = by_class.thresholds.index(criterion.threshold)
    rows = []
    for title, parts in by_class.parts.items():
        values = [part.percent[place] for part in parts.values()]
        points = next(iter(parts.values())).points
        rows.append(Row(title, [f"{points:,}", *_figures(values)], [False, *_best(values)]))
    mean = f"{criterion.metric}_over_classes/{criterion.threshold:g}"
    means = [row.metrics[mean] for row in one.methods]
    title = f"mean over {counted(len(rows), 'class')}"
    rows.append(Row(title, ["", *_figures(means)], [False, *_best(means)], kind="mean"))
    return Table(["class", "points", *_titles(one)], rows)


def other_lengths_table(one: SetReport, config: EvaluateConfig) -> Table:
    """PCK at alpha of labelled keypoints for the lengths that the main table leaves out."""
    lengths = [length for length in LENGTHS if length != one.length]
    every = [column for length in lengths for column in _alpha_columns(length, config)]
    shown = _shown(every, one.methods)
    return _method_table(shown, _method_rows(one, one.methods, shown))


def sparse_table(one: SetReport, config: EvaluateConfig) -> Table:
    """PCK of the sparse protocol by detector, also of detectors that see no point."""
    shown = [
        Column(f"sparse/{detector}/pck/{t}", f"{detector} PCK@{t}")
        for detector in one.bounds
        for t in config.thresholds
    ]
    return _method_table(shown, _method_rows(one, one.methods, shown))


def pose_table(one: SetReport, config: EvaluateConfig) -> Table:
    """Pose metrics of each method by queries and estimator, with the spread over the seeds."""
    rows = []
    for summary in one.methods:
        rows.append(Row(one.labels[summary.method].title, method=summary.method))
        queries = {
            f"pose_{name}" if rank else "pose": QUERIES[name]
            for rank, name in enumerate(config.matching.pose_queries)
        }
        if OWN_MATCHES in summary.metrics:  # the same matches serve all queries
            queries = {"pose": "own keypoints"}
        places = dict.fromkeys(
            name.rpartition("/")[0] for name in summary.metrics if name.count("/") > 1
        )
        for place in (place for place in places if place.partition("/")[0] in queries):
            first, _, estimator = place.partition("/")
            cells = [queries[first]]
            for name, digits, unit in (
                ("rotation_deg_median", 2, "°"),
                ("translation_deg_median", 2, "°"),
                *((f"auc_{t}", 1, " %") for t in AUC_THRESHOLDS_DEG),
            ):
                metric = f"{place}/{name}"
                spread = summary.metrics.get(f"{metric}_spread")
                text = Column(metric, "", digits, unit).cell(summary.metrics)
                cells.append(text if spread is None else f"{text} (±{spread / 2:.1f})")
            rows.append(Row(estimator, cells))
    areas = [f"AUC@{t}°" for t in AUC_THRESHOLDS_DEG]
    return Table(["estimator", "queries", "rotation", "translation", *areas], rows)


def part_table(one: SetReport, breakdown: Breakdown) -> Table:
    """PCK of each subset of the points, at all thresholds in one cell."""
    rows = []
    for title, parts in breakdown.parts.items():
        points = next(iter(parts.values())).points
        figures = [" · ".join(_figures(part.percent)) for part in parts.values()]
        rows.append(Row(title, [f"{points:,}", *figures]))
    return Table([breakdown.quantity, "points", *_titles(one)], rows)


def sequence_table(one: SetReport, config: EvaluateConfig) -> Table:
    """The main metrics in each sequence."""
    shown = main_columns(one, config)
    rows = []
    for sequence, methods in one.sequences.items():
        pairs, points = counted(methods[0].pairs, "pair"), counted(methods[0].points, "point")
        rows += [Row(f"{sequence}: {pairs}, {points}"), *_method_rows(one, methods, shown)]
    return _method_table(shown, rows)


def patch_table(patches: Mapping[str, Mapping[str, float]], config: EvaluateConfig) -> Table:
    """FPR95 in percent of each method with descriptors, by folder."""
    rows = [
        Row(label.title, [f"{by_method[label.name]:.1f} %" for by_method in patches.values()])
        for label in method_labels(config)
        if any(label.name in by_method for by_method in patches.values())
    ]
    return Table(["FPR95", *patches], rows)


def _alpha_columns(length: str, config: EvaluateConfig) -> list[Column]:
    return [
        Column(f"pck_{length}/{alpha:g}", f"PCK@{Criterion(alpha, length)}")
        for alpha in reported_alphas(config)
    ]


def _method_table(shown: Sequence[Column], rows: Sequence[Row]) -> Table:
    return Table(["method", *(column.heading for column in shown)], rows)


def _method_rows(
    one: SetReport, methods: Sequence[MethodSummary], shown: Sequence[Column]
) -> list[Row]:
    best = [column.best(methods) for column in shown]
    return [
        Row(
            one.labels[row.method].title,
            [column.cell(row.metrics) for column in shown],
            [marks[place] for marks in best],
            row.method,
        )
        for place, row in enumerate(methods)
    ]


def _shown(every: Sequence[Column], methods: Sequence[MethodSummary]) -> list[Column]:
    return [column for column in every if any(column.metric in row.metrics for row in methods)]


def _titles(one: SetReport) -> list[str]:
    return [one.labels[row.method].title for row in one.methods]


def _figures(values: Sequence[float]) -> list[str]:
    return [f"{value:.1f}" for value in values]


def _best(
    values: Sequence[float | None], digits: int = 1, larger_is_better: bool | None = True
) -> list[bool]:
    """Whether each value is the best, as rounded; none is where all known values are equal."""
    written = [None if value is None else round(value, digits) for value in values]
    known = {value for value in written if value is not None}
    if larger_is_better is None or len(known) < 2:
        return [False] * len(values)
    best = max(known) if larger_is_better else min(known)
    return [value == best for value in written]
