"""The inputs of a training run: paths, datasets, and their digests."""

from collections.abc import Sequence
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

from ucn.errors import UserError
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.cache_folder import LocalCache
from ucn.preprocessing.shards.index import SampleLocation
from ucn.preprocessing.shards.read import SampleReader, ShardDataset
from ucn.storage.files import file_sha256
from ucn.storage.stores import absolute_uri
from ucn.training.config import TrainConfig
from ucn.training.data.prefetch import Prefetcher
from ucn.training.data.sampler import Sampler
from ucn.training.data.windows import Tars
from ucn.training.networks.published_weights import IMAGENET, published_file
from ucn.training.tracking import DatasetLink


class MixtureReader(NamedTuple):
    """Reads samples of a `Mixture` by location."""

    readers: tuple[SampleReader, ...]

    def read(self, location: tuple[int, SampleLocation]) -> Sample:
        which, place = location
        return self.readers[which].read(place)


class Mixture:
    """The samples of several datasets, one dataset after another.

    Args:
        datasets: at least one.
        prefetcher: for an order by windows, copies tars of datasets in stores.

    Attributes:
        datasets, prefetcher: as given.
        sizes: samples in each dataset.
        digest: of the manifests of all, in order.
    """

    def __init__(
        self, datasets: Sequence[ShardDataset], prefetcher: Prefetcher | None = None
    ) -> None:
        self.datasets = tuple(datasets)
        self.prefetcher = prefetcher
        self.sizes = tuple(map(len, datasets))
        self.digest = ",".join(dataset.digest for dataset in datasets)
        self._ends = np.cumsum(self.sizes)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def reader(self) -> MixtureReader:
        """Reads samples by their location, without an index."""
        return MixtureReader(tuple(dataset.reader for dataset in self.datasets))

    def locate(self, index: int) -> tuple[int, SampleLocation]:
        """The dataset of a sample, and where it is in there."""
        which = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[which]) - self.sizes[which]
        return which, self.datasets[which].locate(index - start)

    def tars(self, window_bytes: int, *, together: bool) -> tuple[Tars, ...]:
        """The tars for an order by windows: of each dataset, or of all together."""
        shards = [
            [(shard.samples, shard.bytes) for shard in dataset.manifest.shards]
            for dataset in self.datasets
        ]
        size, first, found = window_bytes // (1 if together else len(shards)), 0, []
        for group in [[row for rows in shards for row in rows]] if together else shards:
            samples_T, bytes_T = np.array(group, np.int64).T
            found.append(Tars(samples_T, bytes_T, first + np.cumsum(samples_T) - samples_T, size))
            first += int(samples_T.sum())
        return tuple(found)


def absolute_paths(config: TrainConfig) -> TrainConfig:
    """Make all paths absolute, since the workers have another working directory."""
    validation = config.data.validation_shards
    data = config.data.model_copy(
        update={
            "shards": tuple(map(absolute_uri, config.data.shards)),
            "validation_shards": validation and absolute_uri(validation),
        }
    )
    weights = config.network.weights
    if weights is not None and weights != IMAGENET:
        weights = weights.expanduser().absolute()
    network = config.network.model_copy(update={"weights": weights})
    return config.model_copy(
        update={
            "data": data,
            "network": network,
            "output": absolute_uri(config.output),
        }
    )


def open_datasets(config: TrainConfig) -> tuple[Mixture, ShardDataset | None]:
    """Open the shards for training and, where given, for validation.

    Raises:
        UserError: no shards are given, or the validation shards are empty.
    """
    if not config.data.shards:
        raise UserError("data.shards: not given; set it to a folder that `ucn preprocess` made")
    data = config.data
    cache = LocalCache(int(data.cache_gib * 2**30)) if data.cache_gib else None
    by_windows = data.window_bytes is not None
    gave_up = get_context("spawn").Event() if by_windows else None
    datasets = [ShardDataset(uri, cache, gave_up) for uri in data.shards]
    prefetcher = None
    if gave_up is not None and any(dataset.reader.cached for dataset in datasets):
        assert cache is not None, "datasets have copies in the cache"
        stored = [
            (dataset.reader.store, shard) if dataset.reader.cached else None
            for dataset in datasets
            for shard in dataset.manifest.shards
        ]
        prefetcher = Prefetcher(stored, cache, gave_up)
    training = Mixture(datasets, prefetcher)
    if data.validation_shards is None:
        return training, None
    # Random access to a few samples would take the room of the windows.
    validation = ShardDataset(data.validation_shards, None if by_windows else cache)
    if len(validation) == 0:
        raise UserError(
            f"{data.validation_shards}: holds no samples; set data.validation_shards to "
            "others, or leave it out"
        )
    return training, validation


def training_sampler(config: TrainConfig, training: Mixture) -> Sampler:
    """Build the sampler of the training shards.

    Raises:
        UserError: a dataset is empty, the weights do not fit the datasets, or the cache is too
            small for two windows.
    """
    data, tars = config.data, None
    if data.window_bytes is not None and all(training.sizes):
        tars = training.tars(data.window_bytes, together=data.weights is None)
        room = sum(one.room for one in tars)
        if training.prefetcher is not None and room > data.cache_gib * 2**30:
            raise UserError(
                f"data.cache_gib: {data.cache_gib:g} GiB do not hold two windows of tars "
                f"({room / 2**30:.3g} GiB); raise it, lower data.window_gib, or set data.shuffle "
                "to global"
            )
    return Sampler(training.sizes, config.batch_size, config.seed, data.weights, tars)


def input_digests(
    config: TrainConfig, training: Mixture, validation: ShardDataset | None
) -> list[str | None]:
    """Digests of all inputs: the shards' manifests and the published weights."""
    weights = config.network.weights
    return [
        *(dataset.digest for dataset in training.datasets),
        None if validation is None else validation.digest,
        None if weights is None else file_sha256(published_file(weights)),
    ]


def dataset_links(training: Mixture, validation: ShardDataset | None) -> list[DatasetLink]:
    """Describe the datasets for MLflow."""
    several = len(training.datasets) > 1
    links = [
        DatasetLink(f"training-{place}" if several else "training", one.digest, one.uri, "training")
        for place, one in enumerate(training.datasets)
    ]
    if validation is not None:
        link = DatasetLink("validation", validation.digest, validation.uri, "validation")
        links.append(link)
    return links
