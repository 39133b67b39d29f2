"""Look at shards: a pair with its matches, or a sheet of pairs with their statistics."""

import numpy as np

from preprocessing.pictures import (
    Picture,
    contact_sheet,
    displacement_colours,
    draw_matches,
)
from preprocessing.sample import Sample
from preprocessing.shards.read import ShardDataset

_SHEET_PAIRS = 12
_CELL = 32  # pixels


def draw_sample(sample: Sample, *, lines: bool = True) -> Picture:
    """The two images with the matches in the colour of their displacement."""
    return draw_matches(
        sample.image0,
        sample.image1,
        sample.matches_N4,
        displacement_colours(sample.matches_N4),
        lines=lines,
        max_matches=200 if lines else 5000,
    )


def draw_sheet(dataset: ShardDataset) -> Picture:
    """Pairs spread evenly over a dataset, each with its statistics."""
    count = min(_SHEET_PAIRS, len(dataset))
    chosen = np.linspace(0, len(dataset) - 1, count).round().astype(int)
    samples = [dataset[int(index)] for index in chosen]
    return contact_sheet(
        [draw_sample(sample, lines=False) for sample in samples],
        [f"{sample.key}: {describe_sample(sample)}" for sample in samples],
    )


def describe_sample(sample: Sample) -> str:
    """Number of matches, their displacement and depth, and how much of image 0 they cover.

    Ranges are the 5th to the 95th percentile.
    """
    displacement_N = np.hypot(*(sample.matches_N4[:, 2:] - sample.matches_N4[:, :2]).T)
    parts = [f"{len(sample.matches_N4)} matches", f"{_range(displacement_N)} px"]
    if "depth0" in sample.attributes:
        unit = "m" if sample.metadata.get("unit") == "metre" else "units deep"
        parts.append(f"{_range(sample.attributes['depth0'])} {unit}")
    return ", ".join([*parts, f"{coverage(sample):.0%} covered"])


def coverage(sample: Sample) -> float:
    """Fraction of image 0's 32-pixel cells that hold a match."""
    height, width = sample.image0.shape[:2]
    cells = np.floor((sample.matches_N4[:, :2] + 0.5) / _CELL).astype(int)
    total = int(np.ceil(width / _CELL) * np.ceil(height / _CELL))
    return len(np.unique(cells, axis=0)) / total


def _range(values: np.ndarray[tuple[int], np.dtype[np.float32]]) -> str:
    low, high = np.percentile(values, [5, 95])
    return f"{low:.0f}-{high:.0f}"
