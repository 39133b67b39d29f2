"""Statistics of a dataset, from pairs spread evenly over it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.geometry.subsample import spread_sample
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.read import ShardDataset

_CELL = 32  # pixels
_MATCHES_A_PAIR = 1000


@dataclass(frozen=True)
class Statistics:
    """Distributions over S pairs and a sample of their matches.

    Attributes:
        pairs: number of pairs of the whole dataset.
        matches: number of matches of the whole dataset.
        counts_S: number of matches of each pair.
        coverage_S: fraction of image 0's 32-pixel cells that contain a match.
        displacement_M: displacements, pixels.
        depth_M: depths in image 0; empty if unknown.
        depth_unit: ``m``, or ``units`` for a model without metric scale.
    """

    pairs: int
    matches: int
    counts_S: NDArray[np.int64]
    coverage_S: NDArray[np.float64]
    displacement_M: NDArray[np.float64]
    depth_M: NDArray[np.float64]
    depth_unit: str


def dataset_statistics(dataset: ShardDataset, max_pairs: int = 100) -> Statistics:
    """Measures at most ``max_pairs`` pairs, spread evenly over the dataset."""
    samples = [dataset[index] for index in spread_indices(len(dataset), max_pairs)]
    chosen = [spread_sample(s.matches_N4[:, :2], _MATCHES_A_PAIR, [0]) for s in samples]
    depths = [
        sample.attributes["depth0"][rows]
        for sample, rows in zip(samples, chosen, strict=True)
        if "depth0" in sample.attributes
    ]
    return Statistics(
        pairs=len(dataset),
        matches=dataset.manifest.totals.matches,
        counts_S=np.array([len(sample.matches_N4) for sample in samples], np.int64),
        coverage_S=np.array([coverage(sample) for sample in samples], np.float64),
        displacement_M=np.concatenate(
            [displacement(s.matches_N4[rows]) for s, rows in zip(samples, chosen, strict=True)]
            or [np.zeros(0)]
        ),
        depth_M=np.concatenate(depths or [np.zeros(0)]).astype(np.float64),
        depth_unit=depth_unit(samples[0]) if samples else "",
    )


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
    cells = np.floor((sample.matches_N4[:, :2] + 0.5) / _CELL).astype(int)
    total = int(np.ceil(width / _CELL) * np.ceil(height / _CELL))
    return len(np.unique(cells, axis=0)) / total


def depth_unit(sample: Sample) -> str:
    """Unit of the sample's depths."""
    return "m" if sample.metadata.get("unit") == "metre" else "units"
