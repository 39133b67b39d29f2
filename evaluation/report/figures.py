"""Figures of the report, as PNG bytes."""

import io
from collections.abc import Mapping
from itertools import cycle
from typing import NamedTuple

from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ucn.evaluation.methods.build import Label
from ucn.evaluation.report.set_report import SetReport
from ucn.evaluation.scores.pck import CURVE_ALPHAS, CURVE_THRESHOLDS, LENGTHS
from ucn.matching.filters import FILTERS, PrecisionRecall

INK = "#30343b"
_FILTER_COLOURS = dict(zip(FILTERS, ("#0b7a75", "#d17a22", "#7b5ea7", "#c0392b"), strict=True))


class Style(NamedTuple):
    """Line of a method: its colour, and the lengths of dashes and gaps in line widths."""

    colour: str
    dashes: tuple[float, ...]


_LEARNED = [
    Style(colour, dashes)
    for dashes in ((), (10.0, 1.0))
    for colour in ("#0b7a75", "#14519e", "#8a1c5b", "#3d6b1f")
]
_OTHERS = [
    Style(to_hex(colour), dashes)
    for dashes in ((4.0, 1.5), (1.0, 1.5), (6.0, 1.5, 1.0, 1.5), (6.0, 1.5, 1.0, 1.5, 1.0, 1.5))
    for colour in color_sequences["tab10"]
]


def styles(labels: Mapping[str, Label]) -> dict[str, Style]:
    """Assigns a style to each method. The first 8 models and 40 other methods differ."""
    learned, others = cycle(_LEARNED), cycle(_OTHERS)
    return {name: next(learned if label.learned else others) for name, label in labels.items()}


def draw_figures(one: SetReport) -> dict[str, bytes]:
    """Draws the figures of a set as PNG, by file name: PCK, and the filters of each method."""
    figures = {"pck.png": pck_curve(one)}
    for method, curves in one.filters.items():
        if curves:
            figures[f"filters-{method}.png"] = filter_curve(curves, one.labels[method].title)
    return figures


def pck_curve(one: SetReport) -> bytes:
    """Draws PCK against its threshold as PNG, one line per method.

    The threshold is alpha for a set of labelled keypoints (Figure 8 of Choy et al. 2016), else
    pixels. Lines of learned methods are thick.
    """
    length = one.criterion.length
    curves = {row.method: row.alpha_curves[length] if length else row.curve for row in one.methods}
    thresholds = CURVE_ALPHAS if length else CURVE_THRESHOLDS
    figure = Figure(figsize=(7.2, max(4.2, 0.22 * len(curves))), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    lines = styles(one.labels)
    for method, curve in sorted(curves.items(), key=lambda item: -sum(item[1])):
        label, (colour, dashes) = one.labels[method], lines[method]
        axes.plot(
            thresholds,
            curve,
            color=colour,
            linewidth=2.6 if label.learned else 1.6,
            linestyle=(0, dashes) if dashes else "-",
            label=label.title,
            zorder=3 if label.learned else 2,
        )
    threshold = f"threshold α (× {LENGTHS[length]})" if length else "threshold T (px)"
    axes.set(
        xlim=(0 if length else 1, thresholds[-1]),
        ylim=(0, 100),
        xlabel=threshold,
        ylabel=f"{'keypoints' if length else 'points'} within the threshold (%)",
    )
    axes.set_title(f"PCK of {one.name}", loc="left", color=INK, fontsize=11)
    axes.set_xticks([0, 0.025, 0.05, 0.1, 0.15] if length else [1, 3, 5, 10, 20, 30, 40, 50])
    _plain(axes)
    if len(curves) > 5:
        axes.legend(
            frameon=False,
            handlelength=3.5,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            fontsize=9,
        )
    else:
        axes.legend(frameon=False, handlelength=3.5, loc="best")
    return _png(figure)


def filter_curve(curves: Mapping[str, PrecisionRecall], title: str) -> bytes:
    """Draws precision against recall as PNG, one line per filter."""
    figure = Figure(figsize=(4.2, 3.4), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        axes.plot(
            curve.recall_K,
            curve.precision_K,
            color=_FILTER_COLOURS[name],
            linewidth=1.8,
            marker="." if len(curve.recall_K) < 3 else None,
            label=name,
        )
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="recall (%)", ylabel="precision (%)")
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    _plain(axes)
    axes.legend(frameon=False, loc="lower left", fontsize=9)
    return _png(figure)


def _plain(axes: Axes) -> None:
    axes.grid(color="#e3e5e8", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
