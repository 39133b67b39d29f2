"""Statistics of image pairs and their matches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.geometry.subsample import spread_sample
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.read import ShardDataset

CELL = 32  # pixels
MATCHES_PER_PAIR = 1000


@dataclass(frozen=True)
class Distribution:
    """Values of one quantity, per pair or per match.

    Attributes:
        name: the quantity and its unit.
        values: at least one.
        digits: decimals to show.
    """

    name: str
    values: NDArray[np.floating | np.integer]
    digits: int

    def percentiles(self, *percents: float) -> list[str]:
        """Formatted percentiles, with thousands separators."""
        return [f"{value:,.{self.digits}f}" for value in np.percentile(self.values, percents)]


def dataset_distributions(dataset: ShardDataset, max_pairs: int = 100) -> list[Distribution]:
    """Distributions over at most ``max_pairs`` pairs, spread evenly over the dataset.

    Quantities: matches per pair, displacement, depth, and coverage. Depths may be unknown.
    """
    samples = [dataset[index] for index in spread_indices(len(dataset), max_pairs)]
    counts_S = np.array([len(sample.matches_N4) for sample in samples], np.int64)
    coverage_S = np.array([100 * coverage(sample) for sample in samples], np.float64)
    found = [
        Distribution("matches per pair", counts_S, 0),
        *match_distributions(samples, MATCHES_PER_PAIR),
        Distribution("coverage of image 0, %", coverage_S, 0),
    ]
    return found if samples else []


def match_distributions(samples: Sequence[Sample], per_pair: int) -> list[Distribution]:
    """Distributions over at most ``per_pair`` matches of each sample, spread; 0 takes all."""
    lengths, depths = [np.zeros(0)], [np.zeros(0)]
    for sample in samples:
        rows = spread_sample(sample.matches_N4[:, :2], per_pair, [0])
        lengths.append(displacement(sample.matches_N4[rows]))
        if "depth0" in sample.attributes:
            depths.append(sample.attributes["depth0"][rows].astype(np.float64))
    unit = depth_unit(samples[0]) if samples else ""
    found = [
        Distribution("displacement, px", np.concatenate(lengths), 1),
        Distribution(f"depth in image 0, {unit}", np.concatenate(depths), 1),
    ]
    return [one for one in found if len(one.values)]


def spread_indices(total: int, count: int) -> list[int]:
    """At most ``count`` evenly spread indices below ``total``."""
    return [int(i) for i in np.linspace(0, total - 1, min(count, total)).round()]


def displacement(matches_N4: NDArray[np.float32]) -> NDArray[np.float64]:
    """Length of each match's displacement, pixels."""
    offset_N2 = matches_N4[:, 2:].astype(np.float64) - matches_N4[:, :2]
    return np.hypot(offset_N2[:, 0], offset_N2[:, 1])


def coverage(sample: Sample) -> float:
    """Fraction of image 0's 32-pixel cells that contain a match."""
    height, width = sample.image0.shape[:2]
    cells = np.floor((sample.matches_N4[:, :2] + 0.5) / CELL).astype(int)
    total = int(np.ceil(width / CELL) * np.ceil(height / CELL))
    return len(np.unique(cells, axis=0)) / total


def depth_unit(sample: Sample) -> str:
    """Unit of the sample's depths: metres, or the unit of a model without metric scale."""
    return "m" if sample.metadata.get("unit") == "metre" else "units"
