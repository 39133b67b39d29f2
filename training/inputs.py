"""What a training run reads: paths, shards, and their record in MLflow."""

from preprocessing.errors import UserError
from preprocessing.shards.read import ShardDataset
from preprocessing.stores.open import absolute_uri
from training.config import TrainConfig
from training.tracking import DatasetLink, resolve_tracking


def absolute_paths(config: TrainConfig) -> TrainConfig:
    """Make paths hold in the workers, whose working directory is another."""
    validation = config.data.validation_shards
    data = config.data.model_copy(
        update={
            "shards": config.data.shards and absolute_uri(config.data.shards),
            "validation_shards": validation and absolute_uri(validation),
        }
    )
    return config.model_copy(
        update={
            "data": data,
            "output": config.output.expanduser().absolute(),
            "tracking": resolve_tracking(config.tracking),
        }
    )


def open_datasets(config: TrainConfig) -> tuple[ShardDataset, ShardDataset | None]:
    """Open the shards for training and, where given, for validation.

    Raises:
        UserError: they are not given, or hold nothing.
    """
    if not config.data.shards:
        raise UserError("data.shards: not given; set it to a folder that `ucn preprocess` made")
    training = ShardDataset(config.data.shards)
    if config.data.validation_shards is None:
        return training, None
    validation = ShardDataset(config.data.validation_shards)
    if len(validation) == 0:
        raise UserError(
            f"{config.data.validation_shards}: holds no samples; set data.validation_shards to "
            "others, or leave it out"
        )
    return training, validation


def dataset_links(
    config: TrainConfig, training: ShardDataset, validation: ShardDataset | None
) -> list[DatasetLink]:
    """Name the shards of a run, for MLflow."""
    links = [DatasetLink("training", training.digest, config.data.shards, "training")]
    if validation is not None:
        uri = str(config.data.validation_shards)
        links.append(DatasetLink("validation", validation.digest, uri, "validation"))
    return links
