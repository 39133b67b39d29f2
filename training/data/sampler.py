"""Which samples a step trains on, and which worker takes them: pure functions of (seed, step)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ucn.errors import UserError
from ucn.training.data.windows import Tars, WindowOrder, window_order

BLOCK = 1000
"""The shares of mixed datasets are exact over so many draws."""


class Draw(NamedTuple):
    """A sample's number, over all datasets in their order, and how often it came before."""

    sample: int
    epoch: int


@dataclass(frozen=True)
class Sampler:
    """An endless stream of samples, cut into global batches.

    Each dataset is gone through in a new random order again and again, without a gap: between one
    epoch's end and the next one's nothing is left out. With weights, the datasets take turns in
    random order, each with its exact share of every `BLOCK` draws.

    Args:
        sizes: samples in each dataset.
        batch_size: samples in a global batch.
        seed: decides the orders.
        weights: of the datasets; None treats them as one.
        tars: for the order by windows, the tars of each dataset, or of all of them together if
            there are no weights. None permutes all samples.

    Raises:
        UserError: a dataset is empty, or the weights do not fit.
    """

    sizes: tuple[int, ...]
    batch_size: int
    seed: int
    weights: tuple[float, ...] | None = None
    tars: tuple[Tars, ...] | None = None

    def __post_init__(self) -> None:
        if 0 in self.sizes or not self.sizes:
            raise UserError(
                "data.shards: hold no samples; see `skipped` in their manifest.json, and "
                "preprocess others"
            )
        if self.weights is not None:
            _check_weights(self.weights, len(self.sizes))

    def batch(self, step: int) -> list[Draw]:
        """Draw the global batch of a step (from 0)."""
        first = step * self.batch_size
        return [self.draw(place) for place in range(first, first + self.batch_size)]

    def draw(self, place: int) -> Draw:
        """Draw the sample at a place of the stream (from 0)."""
        which, count = self._turn(place)
        epoch, position = divmod(count, self._size(which))
        if self.tars is not None:
            return Draw(int(self._windows(which, epoch).samples_S[position]), epoch)
        first = 0 if self.weights is None else sum(self.sizes[:which])
        order = _order(self.seed, which, epoch, self._size(which))
        return Draw(first + int(order[position]), epoch)

    def tars_in_use(self, step: int) -> tuple[list[int], list[int]]:
        """Numbers of the tars of the windows that a step draws from, and of the windows after them.

        Tars are numbered over all datasets in their order.
        """
        assert self.tars is not None, "the order is by windows"
        spans: dict[int, tuple[int, int]] = {}
        for place in range(step * self.batch_size, (step + 1) * self.batch_size):
            which, count = self._turn(place)
            spans[which] = spans.get(which, (count, count))[0], count
        now: list[int] = []
        after: list[int] = []
        first_tar = 0
        for which, tars in enumerate(self.tars):
            # A dataset without a draw in this step is in the window of its next draw.
            start, end = spans.get(which) or 2 * (self._next_count(which, step),)
            for first, own in self._windows_from(which, start):
                found = now if first <= end else after
                found += [first_tar + tar for tar in own]
                if found is after:
                    break
            first_tar += len(tars.bytes_T)
        return list(dict.fromkeys(now)), list(dict.fromkeys(after))

    def _windows_from(self, which: int, count: int) -> Iterator[tuple[int, list[int]]]:
        """Yields (first draw, tars) of the window of a dataset's draw, and of those after it."""
        size = self._size(which)
        epoch, position = divmod(count, size)
        while True:
            order = self._windows(which, epoch)
            starts = [0, *order.sample_ends_W[:-1].tolist()]
            for window in range(order.window_of(position), len(starts)):
                yield epoch * size + starts[window], order.window_tars(window)
            epoch, position = epoch + 1, 0

    def _turn(self, place: int) -> tuple[int, int]:
        """Whose turn it is at a place of the stream, and how many draws it had before."""
        if self.weights is None:
            return 0, place
        block, position = divmod(place, BLOCK)
        turns, rank = _turns(self.seed, block, self.weights)
        which = int(turns[position])
        return which, block * int(np.count_nonzero(turns == which)) + int(rank[position])

    def _next_count(self, which: int, step: int) -> int:
        """How many draws a dataset had before a step, with weights."""
        assert self.weights is not None, "one dataset has all draws"
        block, position = divmod(step * self.batch_size, BLOCK)
        turns, _ = _turns(self.seed, block, self.weights)
        is_own = turns == which
        return block * int(np.count_nonzero(is_own)) + int(np.count_nonzero(is_own[:position]))

    def _size(self, which: int) -> int:
        return sum(self.sizes) if self.weights is None else self.sizes[which]

    def _windows(self, which: int, epoch: int) -> WindowOrder:
        assert self.tars is not None, "the order is by windows"
        return _window_order(self.tars[which], self.seed, which, epoch)


def take_groups(
    batch: Sequence[Draw], group_size: int, rank: int, world_size: int
) -> list[Sequence[Draw]]:
    """Cut a global batch into groups, and take those of one worker.

    Args:
        batch: a multiple of ``group_size``.
    """
    starts = range(0, len(batch), group_size)[rank::world_size]
    return [batch[start : start + group_size] for start in starts]


def _check_weights(weights: tuple[float, ...], num_datasets: int) -> None:
    if len(weights) != num_datasets:
        raise UserError(
            f"data.weights: {len(weights)} for {num_datasets} shards; give one for each of "
            "data.shards"
        )
    if min(weights) < sum(weights) / BLOCK or sum(weights) <= 0:
        raise UserError(
            f"data.weights: {min(weights):g} is below a thousandth of all; raise it, or leave out "
            "those shards"
        )


@lru_cache(maxsize=16)
def _order(seed: int, which: int, epoch: int, size: int) -> NDArray[np.int32]:
    return np.random.default_rng([seed, which, epoch]).permutation(size).astype(np.int32)


@lru_cache(maxsize=8)
def _window_order(tars: Tars, seed: int, which: int, epoch: int) -> WindowOrder:
    return window_order(tars, np.random.default_rng([seed, which, epoch]))


@lru_cache(maxsize=4)
def _turns(
    seed: int, block: int, weights: tuple[float, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Whose turn it is at each place of a block, and how often it had been in that block."""
    exact = np.array(weights) / sum(weights) * BLOCK
    quotas = np.floor(exact).astype(np.int64)
    quotas[np.argsort(quotas - exact, kind="stable")[: BLOCK - quotas.sum()]] += 1
    turns = np.repeat(np.arange(len(weights)), quotas)
    turns = np.random.default_rng([seed, block, BLOCK]).permutation(turns)
    rank = np.empty(BLOCK, np.int64)
    for which, quota in enumerate(quotas):
        rank[turns == which] = np.arange(quota)
    return turns, rank
