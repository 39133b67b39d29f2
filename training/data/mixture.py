"""Several datasets as one."""

from collections.abc import Sequence

import numpy as np

from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.read import ShardDataset


class Mixture:
    """The samples of several datasets, one dataset after another.

    Args:
        datasets: at least one.

    Attributes:
        datasets: as given.
        sizes: samples in each.
        digest: of the manifests of all, in order.
    """

    def __init__(self, datasets: Sequence[ShardDataset]) -> None:
        self.datasets = tuple(datasets)
        self.sizes = tuple(map(len, datasets))
        self.digest = ",".join(dataset.digest for dataset in datasets)
        self._ends = np.cumsum(self.sizes)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Sample:
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self.datasets[which][index - int(self._ends[which])]
