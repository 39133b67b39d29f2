"""The report of an evaluation: one self-contained HTML page, and its tables in Markdown."""

import base64
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2

from evaluation.config import EvaluateConfig
from evaluation.figures import COLOURS, TITLES, pck_curve
from evaluation.match_pictures import MatchPicture
from evaluation.summary import UCN, MethodSummary

TEMPLATE = "report.html.jinja"


@dataclass(frozen=True)
class SetReport:
    """Everything that is told of one set of shards.

    Attributes:
        name: of the set, as in the metric names.
        uri, digest: where it lies, and the sha256 of its manifest.
        methods: one row a method, over the whole set.
        sequences: the same for each sequence.
        pictures: for each pair drawn, one picture a method.
    """

    name: str
    uri: str
    digest: str
    methods: Sequence[MethodSummary]
    sequences: dict[str, list[MethodSummary]]
    pictures: Sequence[Sequence[MatchPicture]]


@dataclass(frozen=True)
class Column:
    """One column of a table: a metric, its heading, and which way is better."""

    metric: str
    heading: str
    digits: int
    unit: str
    larger_is_better: bool

    def cell(self, summary: MethodSummary) -> str:
        """Write the value of a row; a dash where the metric is absent."""
        value = summary.metrics.get(self.metric)
        return "–" if value is None else f"{value:.{self.digits}f}{self.unit}"

    def is_best(self, summary: MethodSummary, methods: Sequence[MethodSummary]) -> bool:
        """Whether no row reads better, to the digits written; false where there is one row."""
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


def columns(methods: Sequence[MethodSummary], thresholds: Sequence[int]) -> list[Column]:
    """Columns of the main table: those metrics that some row has."""
    every = [
        *(Column(f"pck/{t}", f"PCK@{t}", 1, " %", True) for t in thresholds),
        Column("error_px_median", "median error", 1, " px", False),
        Column("pose/rotation_deg_median", "rotation", 2, "°", False),
        Column("pose/translation_deg_median", "translation", 2, "°", False),
        *(Column(f"pose/auc_{t}", f"AUC@{t}°", 1, " %", True) for t in (5, 10, 20)),
    ]
    return [column for column in every if any(column.metric in row.metrics for row in methods)]


def pose_rows(methods: Sequence[MethodSummary]) -> Iterator[tuple[str, str, list[str]]]:
    """Rows of the table of estimators: method, estimator, cells."""
    for summary in methods:
        estimators = dict.fromkeys(
            name.split("/")[1] for name in summary.metrics if name.count("/") == 2
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


def markdown_table(methods: Sequence[MethodSummary], thresholds: Sequence[int]) -> str:
    """Write the main table of one set in Markdown; the best of each column is bold."""
    shown = columns(methods, thresholds)
    headings = ["method", *(column.heading for column in shown)]
    lines = ["| " + " | ".join(headings) + " |", "|:--|" + "--:|" * len(shown)]
    for summary in methods:
        cells = [
            f"**{column.cell(summary)}**"
            if column.is_best(summary, methods)
            else column.cell(summary)
            for column in shown
        ]
        lines.append("| " + " | ".join([TITLES[summary.method], *cells]) + " |")
    return "\n".join(lines) + "\n"


def markdown_report(sets: Sequence[SetReport], config: EvaluateConfig) -> str:
    """Write the tables of all sets in Markdown."""
    parts = ["# Correspondence report\n"]
    for one in sets:
        first = one.methods[0]
        parts += [
            f"## {one.name}\n",
            f"{counted(first.pairs, 'pair')}, {counted(first.points, 'point')}, the same for every "
            f"method; {pose_sentence(first, config)}\n",
            markdown_table(one.methods, config.thresholds),
        ]
    return "\n".join(parts)


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: ``1 pair``, ``1,200 pairs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def pose_sentence(summary: MethodSummary, config: EvaluateConfig) -> str:
    """Say in a few words how the pose was measured."""
    if not summary.posed or not config.pose.estimators:
        return "no pose."
    still = f", {summary.standing} of them standing still" if summary.standing else ""
    return (
        f"pose by {config.pose.estimators[0]} on {counted(summary.posed, 'pair')}{still}, "
        f"mean over {counted(len(config.pose.seeds), 'seed')}."
    )


def sequence_csv(sets: Sequence[SetReport]) -> str:
    """Write every metric of every method in every sequence as CSV, one row each."""
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


def html_report(sets: Sequence[SetReport], config: EvaluateConfig) -> str:
    """Render the page: tables, curves and pictures inside it, nothing fetched from elsewhere."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    template = environment.from_string(files("evaluation").joinpath(TEMPLATE).read_text("utf-8"))
    return template.render(
        sets=sets,
        config=config,
        titles=TITLES,
        colours=COLOURS,
        ucn=UCN,
        columns=columns,
        pose_rows=pose_rows,
        pose_sentence=pose_sentence,
        curve=pck_curve,
        counted=counted,
        threshold=max(config.thresholds),
    )
