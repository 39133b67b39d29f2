"""The files of an evaluation, each published atomically."""

from collections.abc import Mapping, Sequence

from evaluation.config import EvaluateConfig
from evaluation.figures import pck_curve
from evaluation.report import SetReport, html_report, markdown_report, sequence_csv
from preprocessing.storage import write_bytes, write_json, write_text

METRICS = "metrics.json"
TABLES = "report.md"
REPORT = "report.html"


def write_output(
    sets: Sequence[SetReport], metrics: Mapping[str, float], config: EvaluateConfig
) -> None:
    """Write report, tables, curves and pictures into the output folder.

    ``report.html``, ``report.md``, ``metrics.json`` (name to number), ``sequences.csv``,
    ``SET/pck.png`` and ``SET/matches/RANK-METHOD.jpg``.
    """
    output = config.output.resolve()
    for one in sets:
        write_bytes(output / one.name / "pck.png", pck_curve(one.methods, f"PCK of {one.name}"))
        for rank, pictures in enumerate(one.pictures):
            for picture in pictures:
                path = output / one.name / "matches" / f"{rank}-{picture.method}.jpg"
                write_bytes(path, picture.jpeg)
    write_text(output / "sequences.csv", sequence_csv(sets))
    write_text(output / TABLES, markdown_report(sets, config))
    write_json(output / METRICS, dict(metrics))
    write_text(output / REPORT, html_report(sets, config))
