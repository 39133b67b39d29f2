"""Which samples a worker trains on in which step: a pure function of (seed, step)."""

from dataclasses import dataclass

import numpy as np

from preprocessing.errors import UserError


@dataclass(frozen=True)
class Sampler:
    """Global batches cut from a permutation of the samples that changes with the epoch.

    The same batches result for every number of workers; a worker takes its slice of each. The
    samples that do not fill a last batch sit out that epoch.

    Args:
        num_samples: samples in the dataset.
        batch_size: samples in a global batch, a multiple of ``world_size``.
        seed: decides the permutations.
        rank, world_size: this worker among all.

    Raises:
        UserError: there are fewer samples than one batch takes.
        ValueError: the batch cannot be shared out.
    """

    num_samples: int
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % self.world_size:
            raise ValueError(f"{self.batch_size} samples over {self.world_size} workers")
        if self.num_samples < self.batch_size:
            raise UserError(
                f"batch_size: {self.batch_size} pairs a step, but the shards hold "
                f"{self.num_samples}; lower batch_size or preprocess more pairs"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.num_samples // self.batch_size

    def batch(self, step: int) -> tuple[int, list[int]]:
        """This worker's part of the global batch of a step.

        Returns:
            the epoch, and sample numbers, ``batch_size / world_size`` of them.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)
        share = self.batch_size // self.world_size
        start = position * self.batch_size + self.rank * share
        return epoch, order[start : start + share].tolist()
