"""Random samples of correspondences, spread evenly over the image."""

import numpy as np
from numpy.typing import NDArray

_CELL = 32  # pixels


def spread_sample(pixels_N2: NDArray[np.floating], count: int, seed: list[int]) -> NDArray[np.intp]:
    """Chooses ``count`` of N points, spread evenly over the image.

    Points are drawn in rounds. Each round draws one point at random from each 32-pixel cell that
    has points left; the last round draws from a random selection of cells.

    Args:
        pixels_N2: positions of the points.
        count: number of points to choose. 0, or at least N, chooses all.
        seed: seed of the random choice.

    Returns:
        Ascending indices of the chosen points.
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
    """Casts to 16 bits if the values fit: NumPy sorts 16-bit integers by radix sort."""
    return numbers_N.astype(np.uint16) if numbers_N.max() < 2**16 else numbers_N
