"""Confidence intervals by the percentile bootstrap over pairs.

Points of one pair are correlated, so pairs, not points, are drawn with replacement (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8 and 13).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

DRAWS = 1_000
CONFIDENCE = 0.95

# Number of drawn pair indices that are held at once.
_HELD = 1 << 22


def resampled_pairs(pairs: int, draws: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Draws bootstrap samples of pairs: as many pairs as there are, with replacement.

    Returns:
        Iterator over blocks of indices [B, P], with ``draws`` rows in total.

    Raises:
        ValueError: no pairs or no draws.
    """
    if pairs < 1 or draws < 1:
        raise ValueError(f"{draws} bootstrap draws of {pairs} pairs")
    rng = np.random.default_rng(seed)
    block = max(1, _HELD // pairs)
    for start in range(0, draws, block):
        yield rng.integers(pairs, size=(min(block, draws - start), pairs), dtype=np.intp)


def ratio_interval(
    sums_PT: NDArray[np.number],
    counts_P: NDArray[np.number],
    *,
    seed: int,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
) -> NDArray[np.float64]:
    """Confidence interval of a ratio of sums over pairs: sum(sums) / sum(counts).

    For pooled PCK, sums are each pair's hits (:func:`.pck.hit_counts`) and counts its points. For
    the mean over pairs, sums are each pair's fractions and counts are one.

    Args:
        sums_PT: finite, one row per pair and one column per score. All columns use the same draws.
        counts_P: positive and finite.
        seed: random seed.
        draws: number of bootstrap samples.
        confidence: confidence level, in (0, 1).

    Returns:
        float64 [T, 2], low and high, in the unit of sums / counts.

    Raises:
        ValueError: there are no pairs, the shapes disagree, counts are not positive, values are
            not finite, or the confidence is outside (0, 1).
    """
    if sums_PT.ndim != 2 or counts_P.shape != sums_PT.shape[:1]:
        raise ValueError(f"sums {sums_PT.shape} over counts {counts_P.shape}")
    if not np.isfinite(sums_PT).all() or not ((counts_P > 0) & np.isfinite(counts_P)).all():
        raise ValueError("sums must be finite, counts positive")
    columns_PC = np.column_stack([sums_PT, counts_P]).astype(np.float64)
    totals = []
    for drawn_BP in resampled_pairs(len(counts_P), draws, seed):
        times_BP = _times_drawn(drawn_BP)
        totals.append(times_BP @ columns_PC)
    totals_DC = np.concatenate(totals)
    return _percentiles(totals_DC[:, :-1] / totals_DC[:, -1:], confidence)


def _times_drawn(drawn_BP: NDArray[np.intp]) -> NDArray[np.float64]:
    """Number of times that each pair was drawn in each sample [B, P]."""
    rows, pairs = drawn_BP.shape
    flat = drawn_BP + pairs * np.arange(rows)[:, None]
    times = np.bincount(flat.ravel(), minlength=rows * pairs).reshape(rows, pairs)
    return times.astype(np.float64)


def _percentiles(figures_DT: NDArray[np.float64], confidence: float) -> NDArray[np.float64]:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence}; it lies between 0 and 1")
    tail = (1 - confidence) / 2
    low_high_2T = np.quantile(figures_DT, [tail, 1 - tail], axis=0)
    return np.ascontiguousarray(low_high_2T.T, np.float64)
