"""Writes the output files of an evaluation, each atomically."""

from collections.abc import Mapping, Sequence

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.report.figures import filter_curve, pck_curve
from ucn.evaluation.report.page import html_report, markdown_report, parts_csv, sequence_csv
from ucn.evaluation.report.set_report import SetReport
from ucn.storage.files import write_bytes, write_json, write_text

METRICS = "metrics.json"
TABLES = "report.md"
REPORT = "report.html"


def write_output(
    sets: Sequence[SetReport],
    patches: Mapping[str, Mapping[str, float]],
    metrics: Mapping[str, float],
    config: EvaluateConfig,
) -> None:
    """Writes report, tables, curves and pictures to the output folder.

    Files: ``report.html``, ``report.md``, ``metrics.json`` (name to number), ``sequences.csv``,
    ``parts.csv``, ``SET/pck.png``, ``SET/filters-METHOD.png`` and ``SET/matches/RANK-METHOD.jpg``.
    """
    output = config.output.resolve()
    for one in sets:
        curve = pck_curve(one.methods, one.labels, f"PCK of {one.name}")
        write_bytes(output / one.name / "pck.png", curve)
        for method, curves in one.filters.items():
            picture = filter_curve(curves, one.labels[method].title)
            write_bytes(output / one.name / f"filters-{method}.png", picture)
        for rank, pictures in enumerate(one.pictures):
            for drawn in pictures:
                path = output / one.name / "matches" / f"{rank}-{drawn.method}.jpg"
                write_bytes(path, drawn.jpeg)
    write_text(output / "sequences.csv", sequence_csv(sets))
    write_text(output / "parts.csv", parts_csv(sets, config.thresholds))
    write_text(output / TABLES, markdown_report(sets, patches, config))
    write_json(output / METRICS, dict(metrics))
    write_text(output / REPORT, html_report(sets, patches, config))
