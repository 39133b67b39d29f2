"""Summaries and pictures of shards: one pair with its matches, or a sheet of pairs."""

import io
from collections.abc import Mapping, Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.errors import UserError, counted
from ucn.images.draw import (
    Colours,
    Picture,
    contact_sheet,
    displacement_colours,
    distinct_colours,
    draw_legend,
    draw_matches,
    value_colours,
)
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.format import SKIPPED, Manifest
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.statistics import (
    CELL,
    MATCHES_PER_PAIR,
    Distribution,
    coverage,
    depth_unit,
    displacement,
    match_distributions,
    spread_indices,
)

Colouring = Literal["displacement", "depth", "keypoint"]
Legend = Mapping[str, Sequence[int]]
"""RGB by text."""

_SHEET_PAIRS = 12
_BINS = 30


def summarize_dataset(manifest: Manifest, distributions: Sequence[Distribution]) -> str:
    """Formats the totals, the percentiles of each distribution, and the skipped inputs."""
    totals = manifest.totals
    skipped = sorted(totals.skipped.items(), key=lambda item: (-item[1], item[0]))
    lines = [
        f"pairs {totals.samples:,}, matches {totals.matches:,}, shards {totals.shards:,}, "
        f"{totals.bytes / 1e6:,.1f} MB"
    ]
    if distributions:
        measured = len(distributions[0].values)
        lines += [
            *_table(distributions),
            f"Percentiles over {measured:,} of {counted(totals.samples, 'pair')}, and over at most "
            f"{MATCHES_PER_PAIR:,} matches of each.",
            f"Coverage: share of image 0's {CELL}-pixel cells that contain a match.",
        ]
    lines.append(f"skipped inputs: {sum(totals.skipped.values()):,}")
    lines += [f"  {count:,} {reason}" for reason, count in skipped]
    return "\n".join([*lines, f"Each is listed in {SKIPPED}."] if skipped else lines)


def summarize_sample(sample: Sample) -> str:
    """Formats the counts of a pair, the percentiles over its matches, and what was rejected."""
    rejected = sample.metadata.get("rejected") or {}
    return "\n".join(
        [
            f"{sample.key}: {counted(len(sample.matches_N4), 'match')}, {coverage(sample):.0%} of "
            f"image 0's {CELL}-pixel cells contain one",
            *_table(match_distributions([sample], 0)),
            f"rejected candidates: {sum(rejected.values()):,}",
            *(f"  {count:,} {reason}" for reason, count in rejected.items() if count),
        ]
    )


def draw_sample(sample: Sample, colour: Colouring | None = None) -> Picture:
    """Draws the two images, the matches, and a legend of their colours.

    Args:
        sample: the pair.
        colour: what the colours show; by default the keypoint of labelled keypoints, else the
            displacement. Samples without depths or keypoints are coloured by displacement.
    """
    legend = _legend([sample], colour)
    picture = _draw(sample, colour, legend)
    return np.concatenate([picture, draw_legend(legend, picture.shape[1])])


def draw_sheet(
    dataset: ShardDataset, distributions: Sequence[Distribution], colour: Colouring | None = None
) -> Picture:
    """Draws histograms of a dataset, and pairs spread evenly over it; see `draw_sample`.

    Raises:
        UserError: the dataset has no pairs.
    """
    if not len(dataset):
        raise UserError(f"{dataset.uri}: no pairs to draw; see {SKIPPED} for the reasons")
    samples = [dataset[index] for index in spread_indices(len(dataset), _SHEET_PAIRS)]
    legend = _legend(samples, colour)
    sheet = contact_sheet(
        [_draw(sample, colour, legend, lines=False) for sample in samples],
        [f"{sample.key}: {_caption(sample)}" for sample in samples],
    )
    totals = dataset.manifest.totals
    title = (
        f"pairs {totals.samples:,}, matches {totals.matches:,}\n"
        "ranges in captions: 5th to 95th percentile"
    )
    width = sheet.shape[1]
    return np.concatenate(
        [_histograms(distributions, title, width), draw_legend(legend, width), sheet]
    )


def _table(distributions: Sequence[Distribution]) -> list[str]:
    rows = [
        ("", "5th percentile", "median", "95th percentile"),
        *((one.name, *one.percentiles(5, 50, 95)) for one in distributions),
    ]
    return [f"{name:24}{low:>16}{middle:>12}{high:>17}" for name, low, middle, high in rows]


def _caption(sample: Sample) -> str:
    """Number of matches, and the 5th to 95th percentile of their displacement and depth."""
    parts = [
        f"{counted(len(sample.matches_N4), 'match')}",
        f"{_range(displacement(sample.matches_N4))} px",
    ]
    if "depth0" in sample.attributes:
        parts.append(f"{_range(sample.attributes['depth0'])} {depth_unit(sample)}")
    return ", ".join([*parts, f"{coverage(sample):.0%} covered"])


def _draw(
    sample: Sample, colour: Colouring | None, legend: Legend, *, lines: bool = True
) -> Picture:
    return draw_matches(
        sample.image0,
        sample.image1,
        sample.matches_N4,
        _colours(sample, colour, legend),
        lines=lines,
        max_matches=200 if lines else 5000,
    )


def _colours(sample: Sample, colour: Colouring | None, legend: Legend) -> Colours:
    keypoints, depth_N = _keypoints(sample), sample.attributes.get("depth0")
    if keypoints and colour in (None, "keypoint"):
        return np.array([legend[name] for name in keypoints], np.uint8)
    if colour == "depth" and depth_N is not None and len(depth_N):
        # Near points are red, as large displacements are.
        inverse_N = 1.0 / np.maximum(depth_N, 1e-6)
        low, high = np.percentile(inverse_N, [2, 98])
        return value_colours(inverse_N, float(low), float(high))
    return displacement_colours(sample.matches_N4)


def _legend(samples: Sequence[Sample], colour: Colouring | None) -> Legend:
    shown = {name for sample in samples for name in _keypoints(sample)}
    if shown and colour in (None, "keypoint"):
        # All names that the metadata list, so that a keypoint's colour is the same in all pairs.
        names = dict.fromkeys(
            name for sample in samples for name in [*_keypoint_names(sample), *_keypoints(sample)]
        )
        colours = distinct_colours(len(names)).tolist()
        return {name: rgb for name, rgb in zip(names, colours, strict=True) if name in shown}
    low, high = value_colours(np.array([0.0, 1.0]), 0, 1).tolist()
    if colour == "depth" and any("depth0" in sample.attributes for sample in samples):
        return {"near: 2nd percentile of the pair's depths": high, "far: 98th percentile": low}
    return {"displacement 0 px": low, "95th percentile of the pair's displacements": high}


def _keypoint_names(sample: Sample) -> list[str]:
    return [str(name) for name in sample.metadata.get("keypoint_names") or []]


def _keypoints(sample: Sample) -> list[str]:
    """Name of the labelled keypoint of each match, or its number; empty for other samples."""
    names = dict(enumerate(_keypoint_names(sample)))
    numbers = sample.attributes.get("keypoint", np.zeros(0, int)).tolist()
    return [names.get(number, f"keypoint {number}") for number in numbers]


def _histograms(distributions: Sequence[Distribution], title: str, width: int) -> Picture:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(width / 100, 2.5), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=10, color="#282c34")
    panels = figure.subplots(1, len(distributions), squeeze=False)[0]
    for axes, one in zip(panels, distributions, strict=True):
        edges = _bin_edges(one.values)
        axes.hist(np.clip(one.values, edges[0], edges[-1]), edges, color="#4c78a8", rwidth=0.95)
        axes.axvline(float(np.median(one.values)), color="#e45756", linewidth=1.2)
        if len(edges) == 2:
            # A constant: one narrow bar, and its value below.
            axes.set_xlim(edges[0] - 2, edges[1] + 2)
            axes.set_xticks([float(np.median(one.values))], one.percentiles(50))
        else:
            axes.xaxis.set_major_locator(
                MaxNLocator("auto", steps=[1, 2, 5, 10], integer=not one.digits)
            )
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.6g}")
        axes.set_title(f"{one.name}\nmedian {one.percentiles(50)[0]}", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    encoded = np.frombuffer(buffer.getvalue(), np.uint8)
    picture = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB), np.uint8)
    return np.asarray(cv2.resize(picture, (width, picture.shape[0])), np.uint8)


def _bin_edges(values: NDArray[np.floating | np.integer]) -> NDArray[np.float64]:
    """Edges of the bins of a histogram, up to the 99.5th percentile.

    Few different integers have a bin each. A constant has one bin of width 1.
    """
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    if high - low <= 1e-3 * max(1.0, abs(high)):
        middle = float(np.median(values))
        return np.array([middle - 0.5, middle + 0.5])
    if np.issubdtype(values.dtype, np.integer) and high - low <= _BINS:
        return np.arange(low, np.ceil(high) + 2) - 0.5
    return np.linspace(low, high, _BINS + 1)


def _range(values: NDArray[np.floating]) -> str:
    if not len(values):
        return "no"
    low, high = np.percentile(values, [5, 95])
    ends = [f"{value:.{0 if high >= 10 else 1}f}" for value in (low, high)]
    return "-".join(dict.fromkeys(ends))
