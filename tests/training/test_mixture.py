"""Several datasets as one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ucn.preprocessing.shards.read import ShardDataset
from ucn.training.data.inputs import Mixture


def test_samples_come_in_the_order_of_the_datasets(
    write_shards: Callable[[str, int], Path],
) -> None:
    datasets = [ShardDataset(write_shards(name, size)) for name, size in (("a", 3), ("b", 2))]
    mixture = Mixture(datasets)
    assert (len(mixture), mixture.sizes) == (5, (3, 2))
    keys = [mixture.reader.read(mixture.locate(index)).key for index in range(5)]
    assert keys == datasets[0].keys + datasets[1].keys
    with pytest.raises(IndexError):
        mixture.locate(5)
    assert mixture.digest == f"{datasets[0].digest},{datasets[1].digest}"
