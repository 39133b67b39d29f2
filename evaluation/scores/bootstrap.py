"""Confidence intervals by the percentile bootstrap over pairs.

Points of one pair succeed and fail together, so that pairs, not points, are drawn with replacement
(Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8 and 13).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

DRAWS = 1_000
CONFIDENCE = 0.95

# Numbers of the drawn pairs that are held at once.
_HELD = 1 << 22


def resampled_pairs(pairs: int, draws: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Draw as many pairs as there are, with replacement, again and again.

    Returns:
        Indices [B, P] of blocks of draws, ``draws`` rows in all.

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
    """Interval of the ratio of sums over pairs: sum(sums) / sum(counts).

    Pooled PCK is that ratio with each pair's hits (:func:`.pck.hit_counts`) and points;
    the mean over pairs is that of their shares with counts of one.

    Args:
        sums_PT: finite, one row a pair, one column a figure; all columns see the same draws.
        counts_P: positive and finite.

    Returns:
        float64 [T, 2], low and high, in the unit of sums / counts.

    Raises:
        ValueError: no pairs, shapes that disagree, counts that are not positive, figures that are
            not finite, or a confidence outside (0, 1).
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
    """How often each pair was drawn in each draw [B, P]."""
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
