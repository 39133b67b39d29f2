"""The report of an evaluation: a self-contained HTML page, and its tables in Markdown."""

import base64
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import method_labels
from ucn.evaluation.report.breakdown import Breakdown
from ucn.evaluation.report.figures import colours, filter_curve, pck_curve
from ucn.evaluation.report.set_report import SetReport
from ucn.evaluation.report.summary import MethodSummary

TEMPLATE = "page.html.jinja"
Patches = Mapping[str, Mapping[str, float]]
"""FPR95 in percent by folder and method."""
_LENGTHS = {"side": "max(w, h)", "diagonal": "diagonal", "box": "box"}


@dataclass(frozen=True)
class Column:
    """A column of a table: a metric, its heading, and whether larger values are better."""

    metric: str
    heading: str
    digits: int
    unit: str
    larger_is_better: bool

    def cell(self, metrics: Mapping[str, float]) -> str:
        """Formats the value of a row; a dash if the metric is missing."""
        value = metrics.get(self.metric)
        return "–" if value is None else f"{value:.{self.digits}f}{self.unit}"

    def is_best(self, summary: MethodSummary, methods: Sequence[MethodSummary]) -> bool:
        """Whether a row has the best value, as rounded; False if there is only one row."""
        written = [
            round(row.metrics[self.metric], self.digits)
            for row in methods
            if self.metric in row.metrics
        ]
        value = summary.metrics.get(self.metric)
        if value is None or len(written) < 2:
            return False
        best = max(written) if self.larger_is_better else min(written)
        return round(value, self.digits) == best


def columns(methods: Sequence[MethodSummary], config: EvaluateConfig) -> list[Column]:
    """Columns of the main table, for metrics that at least one row has."""
    every = [
        *(Column(f"pck/{t}", f"PCK@{t}", 1, " %", True) for t in config.thresholds),
        *(
            Column(f"pck_{name}/{alpha:g}", f"PCK@{alpha:g} of {of}", 1, " %", True)
            for name, of in _LENGTHS.items()
            for alpha in config.alphas
        ),
        Column("error_px_median", "median error", 1, " px", False),
        *(Column(f"mma/{t}", f"MMA@{t}", 1, " %", True) for t in (1, 3, 5, 10)),
        *(Column(f"homography/auc_{t}", f"corner AUC@{t}", 1, " %", True) for t in (1, 3, 5)),
        Column("pose/rotation_deg_median", "rotation", 2, "°", False),
        Column("pose/translation_deg_median", "translation", 2, "°", False),
        *(Column(f"pose/auc_{t}", f"AUC@{t}°", 1, " %", True) for t in (5, 10, 20)),
    ]
    return _shown(every, methods)


def sparse_columns(methods: Sequence[MethodSummary], config: EvaluateConfig) -> list[Column]:
    """Columns of the sparse matching table."""
    every = [
        Column(f"sparse/{detector}/pck/{t}", f"{detector} PCK@{t}", 1, " %", True)
        for detector in config.sparse
        for t in config.thresholds
    ]
    return _shown(every, methods)


def _shown(every: Sequence[Column], methods: Sequence[MethodSummary]) -> list[Column]:
    return [column for column in every if any(column.metric in row.metrics for row in methods)]


def pose_rows(methods: Sequence[MethodSummary]) -> Iterator[tuple[str, str, list[str]]]:
    """Rows of the table of pose estimators: method, estimator, cells."""
    for summary in methods:
        estimators = dict.fromkeys(
            name.removeprefix("pose/").rpartition("/")[0]
            for name in summary.metrics
            if name.startswith("pose/") and name.count("/") > 1
        )
        for estimator in estimators:
            cells = []
            for name, digits, unit in (
                ("rotation_deg_median", 2, "°"),
                ("translation_deg_median", 2, "°"),
                ("auc_5", 1, " %"),
                ("auc_10", 1, " %"),
                ("auc_20", 1, " %"),
            ):
                value = summary.metrics.get(f"pose/{estimator}/{name}")
                spread = summary.metrics.get(f"pose/{estimator}/{name}_spread")
                text = "–" if value is None else f"{value:.{digits}f}{unit}"
                cells.append(text if spread is None else f"{text} (±{spread / 2:.1f})")
            yield summary.method, estimator, cells


def published_rows(
    one: SetReport, shown: Sequence[Column]
) -> list[tuple[str, Mapping[str, float]]]:
    """Title and values of the published results that have at least one of the columns."""
    return [
        (title, metrics)
        for title, metrics in one.published.items()
        if any(column.metric in metrics for column in shown)
    ]


def markdown_table(one: SetReport, shown: Sequence[Column]) -> str:
    """Formats the table of one set in Markdown; the best value of each column is bold."""
    methods = one.methods
    headings = ["method", *(column.heading for column in shown)]
    lines = ["| " + " | ".join(headings) + " |", "|:--|" + "--:|" * len(shown)]
    for summary in methods:
        cells = [
            f"**{column.cell(summary.metrics)}**"
            if column.is_best(summary, methods)
            else column.cell(summary.metrics)
            for column in shown
        ]
        lines.append("| " + " | ".join([one.labels[summary.method].title, *cells]) + " |")
    lines += [f"| {label.title}: {label.reason} |" + " |" * len(shown) for label in one.missing]
    for title, metrics in published_rows(one, shown):
        lines.append(f"| *{title}* | " + " | ".join(c.cell(metrics) for c in shown) + " |")
    return "\n".join(lines) + "\n"


def patch_rows(patches: Patches, config: EvaluateConfig) -> list[tuple[str, list[str]]]:
    """Rows of the patch verification table: title of the method, FPR95 for each folder."""
    return [
        (label.title, [f"{by_method[label.name]:.1f} %" for by_method in patches.values()])
        for label in method_labels(config)
        if any(label.name in by_method for by_method in patches.values())
    ]


def markdown_report(sets: Sequence[SetReport], patches: Patches, config: EvaluateConfig) -> str:
    """Formats the tables of all sets in Markdown."""
    parts = ["# Correspondence report\n"]
    for one in sets:
        first = one.methods[0]
        parts += [
            f"## {one.name}\n",
            f"{counted(first.pairs, 'pair')}, {counted(first.points, 'point')}, the same for every "
            f"method; {pose_sentence(first, config)}\n",
            markdown_table(one, columns(one.methods, config)),
        ]
        if sparse := sparse_columns(one.methods, config):
            parts += [f"Sparse protocol: {sparse_sentence(one, config)}\n"]
            parts += [markdown_table(one, sparse)]
    if patches:
        lines = [f"| FPR95 | {' | '.join(patches)} |", "|:--|" + "--:|" * len(patches)]
        lines += [
            f"| {title} | {' | '.join(cells)} |" for title, cells in patch_rows(patches, config)
        ]
        parts += ["## Patch verification\n", "\n".join(lines) + "\n"]
    return "\n".join(parts)


def counted(number: int, noun: str) -> str:
    """Formats a number with its noun: ``1 pair``, ``1,200 pairs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def pose_sentence(summary: MethodSummary, config: EvaluateConfig) -> str:
    """Describes how the pose was measured."""
    if not summary.posed or not config.pose.estimators:
        return "no pose."
    still = f", {summary.standing} of them standing still" if summary.standing else ""
    return (
        f"pose by {config.pose.estimators[0]} on {counted(summary.posed, 'pair')}{still}, "
        f"mean over {counted(len(config.pose.seeds), 'seed')}."
    )


def sparse_sentence(one: SetReport, config: EvaluateConfig) -> str:
    """Describes the points of the sparse protocol, and the result of a perfect matcher."""
    threshold = max(config.thresholds)
    place = config.thresholds.index(threshold)
    return (
        "; ".join(
            f"{counted(points, 'point')} at keypoints of {detector}, of which a perfect matcher "
            f"finds {percent[place]:.1f} % within {threshold} px"
            for detector, (points, percent) in one.bounds.items()
        )
        + "."
    )


def part_rows(breakdown: Breakdown) -> Iterator[tuple[str, int, list[list[str]]]]:
    """Rows of a breakdown table: title, points, and each method's PCK at every threshold."""
    for title, by_method in breakdown.parts.items():
        points = next(iter(by_method.values())).points
        cells = [[f"{value:.1f}" for value in one.percent] for one in by_method.values()]
        yield title, points, cells


def parts_csv(sets: Sequence[SetReport], thresholds: Sequence[int]) -> str:
    """Formats the PCK of all subsets as CSV, one row per method and subset."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["set", "quantity", "part", "method", "points", *(f"pck/{t}" for t in thresholds)]
    )
    for one in sets:
        for breakdown in one.breakdowns:
            for title, by_method in breakdown.parts.items():
                for method, part in by_method.items():
                    row = [one.name, breakdown.quantity, title, method, part.points]
                    writer.writerow([*row, *part.percent])
    return buffer.getvalue()


def interval_sentence(summary: MethodSummary, config: EvaluateConfig) -> str:
    """Describes the confidence interval of the first row."""
    threshold = max(config.thresholds)
    low, high = (summary.metrics[f"pck_{end}/{threshold}"] for end in ("low", "high"))
    return (
        f"95 % interval of the first row's PCK@{threshold}, by bootstrap over the pairs: "
        f"{low:.1f} to {high:.1f} %."
    )


def sequence_csv(sets: Sequence[SetReport]) -> str:
    """Formats every metric of every method in every sequence as CSV, one row each."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["set", "sequence", "method", "pairs", "points", "metric", "value"])
    for one in sets:
        for sequence, methods in one.sequences.items():
            for row in methods:
                for metric, value in row.metrics.items():
                    writer.writerow(
                        [one.name, sequence, row.method, row.pairs, row.points, metric, value]
                    )
    return buffer.getvalue()


def html_report(sets: Sequence[SetReport], patches: Patches, config: EvaluateConfig) -> str:
    """Renders the page. Tables, curves and pictures are embedded, without external resources."""
    labels = {label.name: label for label in method_labels(config)}
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    template = environment.from_string(
        files("ucn.evaluation.report").joinpath(TEMPLATE).read_text("utf-8")
    )
    return template.render(
        sets=sets,
        config=config,
        patches=patches,
        patch_rows=patch_rows,
        titles={name: label.title for name, label in labels.items()},
        colours=colours(labels),
        columns=columns,
        sparse_columns=sparse_columns,
        published_rows=published_rows,
        sparse_sentence=sparse_sentence,
        part_rows=part_rows,
        interval_sentence=interval_sentence,
        pose_rows=pose_rows,
        pose_sentence=pose_sentence,
        curve=pck_curve,
        filter_curve=filter_curve,
        counted=counted,
        threshold=max(config.thresholds),
    )
