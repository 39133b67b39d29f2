"""What a training run reads: paths, shards, and their record in MLflow."""

from ucn.errors import UserError
from ucn.preprocessing.shards.cache_folder import LocalCache
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.write import file_sha256
from ucn.storage.stores import absolute_uri
from ucn.training.config import TrainConfig
from ucn.training.data.mixture import Mixture
from ucn.training.data.sampler import Sampler
from ucn.training.tracking import DatasetLink, resolve_tracking


def absolute_paths(config: TrainConfig) -> TrainConfig:
    """Make paths hold in the workers, whose working directory is another."""
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
            "output": config.output.expanduser().absolute(),
            "tracking": resolve_tracking(config.tracking),
        }
    )


def open_datasets(config: TrainConfig) -> tuple[Mixture, ShardDataset | None]:
    """Open the shards for training and, where given, for validation.

    Raises:
        UserError: they are not given, or hold nothing.
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
    """Draw from the shards as configured.

    Raises:
        UserError: the shards hold nothing, or the weights do not fit them.
    """
    return Sampler(training.sizes, config.batch_size, config.seed, config.data.weights)


def input_digests(
    config: TrainConfig, training: Mixture, validation: ShardDataset | None
) -> list[str | None]:
    """Digests of all that a run reads: shards' manifests, published weights."""
    weights = config.network.weights
    if weights is not None and not weights.is_file():
        raise UserError(f"{weights}: no such file; set network.weights to published weights")
    return [
        *(dataset.digest for dataset in training.datasets),
        None if validation is None else validation.digest,
        None if weights is None else file_sha256(weights),
    ]


def dataset_links(training: Mixture, validation: ShardDataset | None) -> list[DatasetLink]:
    """Name the shards of a run, for MLflow."""
    several = len(training.datasets) > 1
    links = [
        DatasetLink(f"training-{place}" if several else "training", one.digest, one.uri, "training")
        for place, one in enumerate(training.datasets)
    ]
    if validation is not None:
        link = DatasetLink("validation", validation.digest, validation.uri, "validation")
        links.append(link)
    return links
