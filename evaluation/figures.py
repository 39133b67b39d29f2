"""Figures of the report, as PNG bytes."""

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from evaluation.pck import CURVE_THRESHOLDS
from evaluation.summary import UCN, MethodSummary

TITLES = {UCN: "UCN", "sift": "dense SIFT", "daisy": "dense DAISY"}
"""What the methods are called in tables and figures."""
COLOURS = {UCN: "#0b7a75", "sift": "#d17a22", "daisy": "#7b5ea7"}
INK = "#30343b"


def pck_curve(methods: Sequence[MethodSummary], title: str) -> bytes:
    """Draw PCK against its threshold, one line a method, as PNG."""
    figure = Figure(figsize=(7.2, 4.0), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    for summary in methods:
        is_ucn = summary.method == UCN
        axes.plot(
            CURVE_THRESHOLDS,
            summary.curve,
            color=COLOURS[summary.method],
            linewidth=2.6 if is_ucn else 1.8,
            linestyle="-" if is_ucn else "--",
            label=TITLES[summary.method],
            zorder=3 if is_ucn else 2,
        )
    axes.set(
        xlim=(1, CURVE_THRESHOLDS[-1]),
        ylim=(0, 100),
        xlabel="threshold T (px)",
        ylabel="points within T of the truth (%)",
    )
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.set_xticks([1, 3, 5, 10, 20, 30, 40, 50])
    axes.grid(color="#e3e5e8", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
