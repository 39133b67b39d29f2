"""A seeded sample of correspondences, spread over the image."""

import numpy as np
from numpy.typing import NDArray

_CELL = 32  # pixels


def spread_sample(pixels_N2: NDArray[np.floating], count: int, seed: list[int]) -> NDArray[np.intp]:
    """Choose ``count`` of N points so that no part of the image is crowded.

    Points are drawn in rounds, one from each 32-pixel cell that has any left; within a cell, and
    between the cells of the last round, chance decides.

    Args:
        pixels_N2: positions.
        count: how many to choose; all when it is 0 or at least N.
        seed: of the choice.

    Returns:
        Ascending indices.
    """
    total = len(pixels_N2)
    if count == 0 or count >= total:
        return np.arange(total)
    shuffled_N = np.random.default_rng(seed).permutation(total)
    cells_N2 = np.floor(pixels_N2 / _CELL).astype(np.int64)
    cells_N2 -= cells_N2.min(axis=0)
    columns = int(cells_N2[:, 0].max()) + 1
    cell_N = _narrow(cells_N2[:, 1] * columns + cells_N2[:, 0])[shuffled_N]
    by_cell_N = np.argsort(cell_N, kind="stable")
    starts = np.flatnonzero(np.diff(cell_N[by_cell_N].astype(np.int64), prepend=-1))
    lengths = np.diff(np.append(starts, total))
    round_N = np.empty(total, np.int64)
    round_N[by_cell_N] = np.arange(total) - np.repeat(starts, lengths)
    chosen = shuffled_N[np.argsort(_narrow(round_N), kind="stable")[:count]]
    return np.sort(chosen)


def _narrow(numbers_N: NDArray[np.int64]) -> NDArray[np.integer]:
    """The same numbers in 16 bits where they fit: NumPy sorts those by radix."""
    return numbers_N.astype(np.uint16) if numbers_N.max() < 2**16 else numbers_N
