"""Which samples a step trains on, and which worker takes them: pure functions of (seed, step)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ucn.errors import UserError

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

    Raises:
        UserError: a dataset is empty, or the weights do not fit.
    """

    sizes: tuple[int, ...]
    batch_size: int
    seed: int
    weights: tuple[float, ...] | None = None

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
        if self.weights is None:
            return self._nth(0, place, sum(self.sizes), 0)
        block, position = divmod(place, BLOCK)
        turns, rank = _turns(self.seed, block, self.weights)
        which = int(turns[position])
        count = block * int(np.count_nonzero(turns == which)) + int(rank[position])
        return self._nth(which, count, self.sizes[which], sum(self.sizes[:which]))

    def _nth(self, which: int, count: int, size: int, first: int) -> Draw:
        epoch, position = divmod(count, size)
        return Draw(first + int(_order(self.seed, which, epoch, size)[position]), epoch)


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
