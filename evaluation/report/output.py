"""Writes the output files of an evaluation, each atomically."""

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files

import jinja2

from ucn.errors import counted
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import method_labels
from ucn.evaluation.report import tables
from ucn.evaluation.report.figures import draw_figures, styles
from ucn.evaluation.report.set_report import SetReport
from ucn.evaluation.scores.pck import LENGTHS
from ucn.storage.files import write_bytes, write_json, write_text

METRICS = "metrics.json"
TABLES = "report.md"
REPORT = "report.html"
TEMPLATE = "page.html.jinja"

Patches = Mapping[str, Mapping[str, float]]
"""FPR95 in percent by folder and method."""


def write_output(
    sets: Sequence[SetReport],
    patches: Patches,
    metrics: Mapping[str, float],
    config: EvaluateConfig,
) -> None:
    """Writes report, tables, curves and pictures to the output folder.

    Files: ``report.html``, ``report.md``, ``metrics.json`` (name to number), ``sequences.csv``,
    ``parts.csv``, ``SET/pck.png``, ``SET/filters-METHOD.png`` and ``SET/matches/RANK-METHOD.jpg``.
    Figures and pictures of an earlier evaluation are removed.
    """
    output = config.output.resolve()
    figures = [draw_figures(one) for one in sets]
    drawn = {
        output / one.name / name: png
        for one, by_name in zip(sets, figures, strict=True)
        for name, png in by_name.items()
    } | {
        output / one.name / "matches" / f"{rank}-{picture.method}.jpg": picture.jpeg
        for one in sets
        for rank, pictures in enumerate(one.pictures)
        for picture in pictures
    }
    for pattern in ("*/pck.png", "*/filters-*.png", "*/matches/[0-9]*-*.jpg"):
        for path in set(output.glob(pattern)) - drawn.keys():
            path.unlink()
    for path, data in drawn.items():
        write_bytes(path, data)
    write_text(output / "sequences.csv", sequence_csv(sets))
    write_text(output / "parts.csv", parts_csv(sets, config.thresholds))
    write_text(output / TABLES, markdown_report(sets, patches, config))
    write_json(output / METRICS, dict(metrics))
    write_text(output / REPORT, html_report(sets, figures, patches, config))


def html_report(
    sets: Sequence[SetReport],
    figures: Sequence[Mapping[str, bytes]],
    patches: Patches,
    config: EvaluateConfig,
) -> str:
    """Renders the page. Tables, figures and pictures are embedded, without external resources."""
    labels = {label.name: label for label in method_labels(config)}
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    template = environment.from_string(
        files("ucn.evaluation.report").joinpath(TEMPLATE).read_text("utf-8")
    )
    return template.render(
        sets=list(zip(sets, figures, strict=True)),
        config=config,
        patches=patches,
        tables=tables,
        titles={name: label.title for name, label in labels.items()},
        styles=styles(labels),
        size_sentence=size_sentence,
        pck_sentence=pck_sentence,
        sparse_sentence=sparse_sentence,
    )


def markdown_report(sets: Sequence[SetReport], patches: Patches, config: EvaluateConfig) -> str:
    """Formats the main, class, sparse and patch tables in Markdown."""
    parts = ["# Correspondence report\n"]
    for one in sets:
        parts += [f"## {one.name}\n", f"{size_sentence(one, config)} {pck_sentence(one)}\n"]
        parts += [markdown_table(tables.main_table(one, config))]
        if one.length:
            parts += [f"PCK@{one.class_criterion} by class, percent:\n"]
            parts += [markdown_table(tables.class_table(one))]
        if one.bounds:
            parts += [f"Sparse protocol: {sparse_sentence(one, config)}\n"]
            parts += [markdown_table(tables.sparse_table(one, config))]
    if patches:
        parts += ["## Patch verification\n", markdown_table(tables.patch_table(patches, config))]
    return "\n".join(parts)


def markdown_table(table: tables.Table) -> str:
    """Formats a table in Markdown; the best values are bold."""
    columns = len(table.headings) - 1
    lines = [f"| {' | '.join(table.headings)} |", "|:--|" + "--:|" * columns]
    for row in table.rows:
        cells = list(row.cells) or [""] * columns
        for place, best in enumerate(row.best):
            cells[place] = f"**{cells[place]}**" if best else cells[place]
        title = f"*{row.title}*" if row.kind == "published" else row.title
        lines.append(f"| {' | '.join([title, *cells])} |")
    return "\n".join(lines) + "\n"


def size_sentence(one: SetReport, config: EvaluateConfig) -> str:
    """Numbers of pairs and points, and how the pose was measured."""
    first = one.methods[0]
    size = (
        f"{counted(first.pairs, 'pair')}, {counted(first.points, 'point')}, the same "
        "for every method"
    )
    if not first.posed:
        return f"{size}." if one.criterion.length else f"{size}; no pose."
    still = f", {first.standing} of them without translation" if first.standing else ""
    queries = tables.QUERIES[config.matching.pose_queries[0]]
    return (
        f"{size}; pose by {config.pose.estimators[0]} from matches of {queries} on "
        f"{counted(first.posed, 'pair')}{still}, mean over "
        f"{counted(len(config.pose.seeds), 'seed')}."
    )


def pck_sentence(one: SetReport) -> str:
    """Definition of PCK, and the confidence interval of the first row, which one pair has not."""
    sentence = ""
    if not one.criterion.length:
        sentence += (
            "PCK@T: percentage of the points whose match lies at most T px from the true position. "
        )
    if one.length:
        sentence += (
            "PCK@α: percentage of the labelled keypoints whose match lies at most α times "
            f"{LENGTHS[one.length]} of image 1 from the true position. "
        )
    first, threshold = one.methods[0], f"{one.criterion.threshold:g}"
    if first.pairs == 1:
        return sentence.rstrip()
    low, high = (
        first.metrics[f"{one.criterion.metric}_{end}/{threshold}"] for end in ("low", "high")
    )
    return (
        f"{sentence}95 % interval of PCK@{threshold} of {one.labels[first.method].title}, by "
        f"bootstrap over the pairs: {low:.1f} to {high:.1f} %."
    )


def sparse_sentence(one: SetReport, config: EvaluateConfig) -> str:
    """Points of the sparse protocol by detector, and the result of a perfect matcher."""
    threshold = max(config.thresholds)
    place = config.thresholds.index(threshold)
    sentences = []
    for detector, (points, percent) in one.bounds.items():
        sentence = f"{counted(points, 'point')} at keypoints of {detector}"
        if percent:
            sentence += (
                f", of which a perfect matcher finds {percent[place]:.1f} % within {threshold} px"
            )
        sentences.append(sentence)
    return "; ".join(sentences) + "."


def parts_csv(sets: Sequence[SetReport], thresholds: Sequence[int]) -> str:
    """Formats the PCK of all subsets as CSV, one row per method and subset.

    Columns of PCK at alpha, for sets of labelled keypoints, follow those in pixels.
    """
    rows: dict[tuple[str, ...], dict[str, object]] = {}
    for one in sets:
        for breakdown in one.breakdowns:
            for title, by_method in breakdown.parts.items():
                for method, part in by_method.items():
                    key = (one.name, breakdown.quantity, title, method)
                    names = (f"{breakdown.metric}/{t:g}" for t in breakdown.thresholds)
                    row = rows.setdefault(key, {"points": part.points})
                    row |= zip(names, part.percent, strict=True)
    first = ["set", "quantity", "part", "method"]
    known = dict.fromkeys(["points", *(f"pck/{t}" for t in thresholds)])
    known |= dict.fromkeys(name for row in rows.values() for name in row)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*first, *known], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dict(zip(first, key, strict=True)) | row for key, row in rows.items())
    return buffer.getvalue()


def sequence_csv(sets: Sequence[SetReport]) -> str:
    """Formats every metric of every method in every sequence as CSV, one row each."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["set", "sequence", "method", "pairs", "points", "metric", "value"])
    writer.writerows(
        [one.name, sequence, row.method, row.pairs, row.points, metric, value]
        for one in sets
        for sequence, methods in one.sequences.items()
        for row in methods
        for metric, value in row.metrics.items()
    )
    return buffer.getvalue()
