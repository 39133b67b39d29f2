"""Order of an epoch by windows of tars: a pure function of the random generator's seed."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Tars:
    """The tars that are permuted together.

    Attributes:
        samples_T: samples in each.
        bytes_T: size of each.
        first_T: number of the first sample of each.
        window_bytes: most bytes of the tars of a window.
    """

    samples_T: NDArray[np.int64]
    bytes_T: NDArray[np.int64]
    first_T: NDArray[np.int64]
    window_bytes: int

    @property
    def room(self) -> int:
        """Most bytes that two consecutive windows take."""
        return 2 * max(self.window_bytes, int(self.bytes_T.max()))


class WindowOrder(NamedTuple):
    """Order of the samples in one epoch, cut into W windows.

    Attributes:
        samples_S: sample numbers.
        tars_T: numbers of the tars, in the order of the windows.
        sample_ends_W, tar_ends_W: end of each window in ``samples_S`` and ``tars_T``.
    """

    samples_S: NDArray[np.int64]
    tars_T: NDArray[np.int64]
    sample_ends_W: NDArray[np.int64]
    tar_ends_W: NDArray[np.int64]

    def window_of(self, position: int) -> int:
        """The window of a position in the epoch."""
        return int(np.searchsorted(self.sample_ends_W, position, side="right"))

    def window_tars(self, window: int) -> list[int]:
        """The tars of a window."""
        start = int(self.tar_ends_W[window - 1]) if window else 0
        return [int(tar) for tar in self.tars_T[start : self.tar_ends_W[window]]]


def window_order(tars: Tars, rng: np.random.Generator) -> WindowOrder:
    """Permute the tars, cut them into windows, and permute the samples of each window.

    A window takes tars while they fit in ``tars.window_bytes``, and at least one.
    """
    tars_T = rng.permutation(len(tars.bytes_T))
    ends: list[int] = []
    total = 0
    for place, size in enumerate(tars.bytes_T[tars_T].tolist()):
        if place and total + size > tars.window_bytes:
            ends.append(place)
            total = 0
        total += size
    tar_ends_W = np.array([*ends, len(tars_T)])
    counts_T = tars.samples_T[tars_T]
    ends_T = np.cumsum(counts_T)
    # Sample numbers run on within a tar, and jump between tars.
    jumps_T = tars.first_T[tars_T] - (ends_T - counts_T)
    samples_S = np.arange(ends_T[-1]) + np.repeat(jumps_T, counts_T)
    sample_ends_W = ends_T[tar_ends_W - 1]
    for start, end in zip([0, *sample_ends_W[:-1]], sample_ends_W, strict=True):
        rng.shuffle(samples_S[start:end])
    return WindowOrder(samples_S, tars_T, sample_ends_W, tar_ends_W)
