"""Configuration of `ucn run`: shards, training, evaluation. Light to import."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, model_validator

from ucn.config import FrozenConfig
from ucn.evaluation.config import EvaluateConfig
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.sources.registry import SOURCES
from ucn.registry import is_own
from ucn.storage.addresses import redact, sqlite_uri
from ucn.training.config import TrackingConfig, TrainConfig


def _by_source(values: Any) -> Any:
    """Validates options with the configuration class of their source."""
    if not isinstance(values, dict):
        return values
    options = dict(values)
    name = str(options.pop("source", ""))
    return SOURCES.load(name)(**options)


AnySource = Annotated[SerializeAsAny[PreprocessConfig], BeforeValidator(_by_source)]

TRAIN = "train"
VALIDATION = "val"


class RunConfig(FrozenConfig):
    """Preprocess, train, evaluate, in order.

    Training uses the split ``train`` and splits named ``train_NAME``, validation during training
    uses ``val``, and evaluation uses all others, or ``val`` if there are no others. Folders that
    are not configured are below ``out``.
    """

    out: str
    """Folder of all outputs: shards/SPLIT, train, evaluate. On a cluster all nodes must share it.
    `shards.SPLIT.out` moves shards elsewhere, such as into an object store."""
    shards: dict[str, AnySource]
    """Source of each split."""
    train: TrainConfig
    """Training."""
    evaluate: EvaluateConfig
    """Evaluation."""
    tracking: TrackingConfig
    """MLflow, for training and evaluation."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("out"):
            return values
        if "://" in str(values["out"]):
            raise ValueError(
                f"out: {redact(str(values['out']))} is an address; give a folder that all "
                "nodes share; shards.SPLIT.out=s3://BUCKET/FOLDER puts shards into a store"
            )
        out = Path(str(values["out"]))
        splits = _options(values, "shards")
        if TRAIN not in splits:
            raise ValueError(f"shards: no split {TRAIN}; add shards.{TRAIN}.source")
        mixed = [split for split in splits if split.split("_")[0] == TRAIN]
        held_out = [split for split in splits if split not in (*mixed, VALIDATION)]
        if not held_out and VALIDATION not in splits:
            raise ValueError("shards: no split to evaluate; add shards.test.source")
        shards = {
            split: {"out": str(out / "shards" / split), "split": split} | _options(splits, split)
            for split in splits
        }
        tracking = _options(values, "tracking")
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            tracking = {"uri": sqlite_uri(out / "mlflow.db")} | tracking
        train = {"output": str(out / "train"), "tracking": tracking} | _options(values, "train")
        folders = {split: str(options["out"]) for split, options in shards.items()}
        train["data"] = {
            "shards": [folders[split] for split in mixed],
            "validation_shards": folders.get(VALIDATION),
        } | _options(train, "data")
        network = str(_options(train, "network").get("name", ""))
        evaluate = {
            "imports": [network.partition(":")[0]] if is_own(network) else [],
            "shards": [folders[split] for split in held_out or [VALIDATION]],
            "model": f"{train['output']}/model",
            "output": str(out / "evaluate"),
            "tracking": tracking,
        } | _options(values, "evaluate")
        return values | {
            "shards": shards,
            "train": train,
            "evaluate": evaluate,
            "tracking": tracking,
        }


def _options(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The options below a name; empty if they are not configured."""
    found = values.get(name)
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{name}: {found!r} is not a mapping of options")
    return found or {}
