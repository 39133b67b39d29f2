"""The inputs of a training run: paths, datasets, and their digests."""

from collections.abc import Sequence

import numpy as np

from ucn.errors import UserError
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.cache_folder import LocalCache
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.write import file_sha256
from ucn.storage.stores import absolute_uri
from ucn.training.config import TrainConfig
from ucn.training.data.sampler import Sampler
from ucn.training.tracking import DatasetLink


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
    network = config.network.model_copy(
        update={"weights": weights and weights.expanduser().absolute()}
    )
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
    cache = LocalCache(int(config.data.cache_gib * 2**30)) if config.data.cache_gib else None
    training = Mixture([ShardDataset(uri, cache) for uri in config.data.shards])
    if config.data.validation_shards is None:
        return training, None
    validation = ShardDataset(config.data.validation_shards, cache)
    if len(validation) == 0:
        raise UserError(
            f"{config.data.validation_shards}: holds no samples; set data.validation_shards to "
            "others, or leave it out"
        )
    return training, validation


def training_sampler(config: TrainConfig, training: Mixture) -> Sampler:
    """Build the sampler of the training shards.

    Raises:
        UserError: a dataset is empty, or the weights do not fit the datasets.
    """
    return Sampler(training.sizes, config.batch_size, config.seed, config.data.weights)


def input_digests(
    config: TrainConfig, training: Mixture, validation: ShardDataset | None
) -> list[str | None]:
    """Digests of all inputs: the shards' manifests and the published weights."""
    weights = config.network.weights
    if weights is not None and not weights.is_file():
        raise UserError(f"{weights}: no such file; set network.weights to published weights")
    return [
        *(dataset.digest for dataset in training.datasets),
        None if validation is None else validation.digest,
        None if weights is None else file_sha256(weights),
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
