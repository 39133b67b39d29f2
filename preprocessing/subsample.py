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
    cells_N2 = np.floor(pixels_N2[shuffled_N] / _CELL).astype(np.int64)
    cell_N = np.unique(cells_N2, axis=0, return_inverse=True)[1].ravel()
    by_cell_N = np.argsort(cell_N, kind="stable")
    starts = np.flatnonzero(np.diff(cell_N[by_cell_N], prepend=-1))
    lengths = np.diff(np.append(starts, total))
    round_N = np.empty(total, np.intp)
    round_N[by_cell_N] = np.arange(total) - np.repeat(starts, lengths)
    chosen = shuffled_N[np.argsort(round_N, kind="stable")[:count]]
    return np.sort(chosen)
