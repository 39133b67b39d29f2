"""Figures of the report, as PNG bytes."""

import io
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ucn.evaluation.methods.build import Label
from ucn.evaluation.methods.filter_scores import FILTERS
from ucn.evaluation.report.summary import MethodSummary
from ucn.evaluation.scores.pck import CURVE_THRESHOLDS
from ucn.matching.filters import PrecisionRecall

INK = "#30343b"
_LEARNED = ("#0b7a75", "#14519e", "#8a1c5b", "#3d6b1f")
_OTHERS = (
    "#d17a22",
    "#7b5ea7",
    "#c0392b",
    "#2e86c1",
    "#8d6e63",
    "#7f8c3a",
    "#d4559d",
    "#546e7a",
    "#b8860b",
    "#26a69a",
    "#5c6bc0",
    "#a1887f",
    "#e57373",
    "#455a64",
    "#afb42b",
    "#6d4c41",
    "#0097a7",
)
_FILTER_COLOURS = dict(zip(FILTERS, ("#0b7a75", "#d17a22", "#7b5ea7", "#c0392b"), strict=True))


def colours(labels: Mapping[str, Label]) -> dict[str, str]:
    """Assigns one colour to each method, from separate palettes for learned and other methods."""
    learned = [name for name, label in labels.items() if label.learned]
    others = [name for name, label in labels.items() if not label.learned]
    return {
        name: palette[place % len(palette)]
        for names, palette in ((learned, _LEARNED), (others, _OTHERS))
        for place, name in enumerate(names)
    }


def pck_curve(methods: Sequence[MethodSummary], labels: Mapping[str, Label], title: str) -> bytes:
    """Draws PCK curves as PNG, one line per method; lines of learned methods are solid."""
    figure = Figure(figsize=(7.2, 4.2), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    palette = colours(labels)
    ranked = sorted(methods, key=lambda summary: -sum(summary.curve))
    for summary in ranked:
        learned = labels[summary.method].learned
        axes.plot(
            CURVE_THRESHOLDS,
            summary.curve,
            color=palette[summary.method],
            linewidth=2.6 if learned else 1.6,
            linestyle="-" if learned else "--",
            label=labels[summary.method].title,
            zorder=3 if learned else 2,
        )
    axes.set(
        xlim=(1, CURVE_THRESHOLDS[-1]),
        ylim=(0, 100),
        xlabel="threshold T (px)",
        ylabel="points within T of the truth (%)",
    )
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.set_xticks([1, 3, 5, 10, 20, 30, 40, 50])
    _plain(axes)
    if len(methods) > 5:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    else:
        axes.legend(frameon=False, loc="lower right")
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
