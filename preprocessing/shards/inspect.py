"""Pictures of shards: one pair with its matches, or a sheet of pairs with statistics."""

import io
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.images.draw import (
    Colours,
    Picture,
    contact_sheet,
    displacement_colours,
    draw_matches,
    value_colours,
)
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.statistics import (
    Statistics,
    coverage,
    dataset_statistics,
    depth_unit,
    displacement,
    spread_indices,
)

Colouring = Literal["displacement", "depth"]

_SHEET_PAIRS = 12


def draw_sample(
    sample: Sample, *, lines: bool = True, colour: Colouring = "displacement"
) -> Picture:
    """Draws the two images, with the matches coloured by displacement or depth.

    Samples without depths are coloured by displacement.
    """
    return draw_matches(
        sample.image0,
        sample.image1,
        sample.matches_N4,
        _colours(sample, colour),
        lines=lines,
        max_matches=200 if lines else 5000,
    )


def draw_sheet(dataset: ShardDataset, *, colour: Colouring = "displacement") -> Picture:
    """Draws histograms of a dataset, and pairs spread evenly over it."""
    samples = [dataset[index] for index in spread_indices(len(dataset), _SHEET_PAIRS)]
    sheet = contact_sheet(
        [draw_sample(sample, lines=False, colour=colour) for sample in samples],
        [f"{sample.key}: {summarize_sample(sample)}" for sample in samples],
    )
    return np.concatenate([_histograms(dataset_statistics(dataset), sheet.shape[1]), sheet])


def summarize_sample(sample: Sample) -> str:
    """Formats the number of matches, their displacement and depth, and the coverage of image 0.

    Ranges are the 5th to the 95th percentile.
    """
    parts = [f"{len(sample.matches_N4)} matches", f"{_range(displacement(sample.matches_N4))} px"]
    if "depth0" in sample.attributes:
        parts.append(f"{_range(sample.attributes['depth0'])} {depth_unit(sample)}")
    return ", ".join([*parts, f"{coverage(sample):.0%} covered"])


def summarize_dataset(statistics: Statistics) -> str:
    """Formats each distribution as one line: 5th percentile, median, 95th percentile."""
    rows = [
        ("matches a pair", statistics.counts_S, "{:.0f}"),
        ("displacement, px", statistics.displacement_M, "{:.1f}"),
        (f"depth, {statistics.depth_unit}", statistics.depth_M, "{:.1f}"),
        ("coverage, %", 100 * statistics.coverage_S, "{:.0f}"),
    ]
    lines = [f"{statistics.pairs} pairs, {statistics.matches} matches"]
    for name, values, form in rows:
        if len(values):
            low, middle, high = (form.format(v) for v in np.percentile(values, [5, 50, 95]))
            lines.append(f"{name:18} {low} / {middle} / {high}")
    return "\n".join(lines)


def _colours(sample: Sample, colour: Colouring) -> Colours:
    depth_N = sample.attributes.get("depth0")
    if colour == "displacement" or depth_N is None or not len(depth_N):
        return displacement_colours(sample.matches_N4)
    # Near points are red, as large displacements are.
    inverse_N = 1.0 / np.maximum(depth_N, 1e-6)
    low, high = np.percentile(inverse_N, [2, 98])
    return value_colours(inverse_N, float(low), float(high))


def _histograms(statistics: Statistics, width: int) -> Picture:
    from matplotlib.figure import Figure

    panels = [
        ("matches a pair", statistics.counts_S),
        ("displacement, px", statistics.displacement_M),
        (f"depth, {statistics.depth_unit}", statistics.depth_M),
        ("coverage, %", 100 * statistics.coverage_S),
    ]
    panels = [(name, values) for name, values in panels if len(values)]
    figure = Figure(figsize=(width / 100, 2.2), dpi=100, layout="constrained")
    figure.suptitle(
        f"{statistics.pairs} pairs, {statistics.matches:,} matches", fontsize=11, color="#282c34"
    )
    for axes, (name, values) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        top = float(np.percentile(values, 99.5))
        low = float(values.min())
        axes.hist(values, bins=30, range=(low, max(top, low + 1e-6)), color="#4c78a8")
        axes.axvline(float(np.median(values)), color="#e45756", linewidth=1.2)
        middle = np.median(values)
        axes.set_title(f"{name}: median {middle:,.{0 if middle >= 100 else 1}f}", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    encoded = np.frombuffer(buffer.getvalue(), np.uint8)
    picture = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB), np.uint8)
    return np.asarray(cv2.resize(picture, (width, picture.shape[0])), np.uint8)


def _range(values: NDArray[np.floating]) -> str:
    if not len(values):
        return "no"
    low, high = np.percentile(values, [5, 95])
    digits = 0 if high >= 10 else 1
    return f"{low:.{digits}f}-{high:.{digits}f}"
