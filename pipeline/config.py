"""One configuration for a whole run: shards, training, evaluation. Light to import."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, model_validator

from ucn.config import FrozenConfig
from ucn.evaluation.config import EvaluateConfig
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.sources.registry import SOURCES
from ucn.storage.addresses import redact
from ucn.training.config import TrackingConfig, TrainConfig


def _by_source(values: Any) -> Any:
    """Options as the class that their source has for them."""
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

    The shards of split ``train``, and of others called ``train_NAME``, are trained on, those of
    ``val`` validated on during training, and all others (``val`` where there are none) are
    evaluated on. Where the parts lie, and how
    they refer to each other, is filled in from ``out``.
    """

    out: str
    """Folder of everything the run makes: shards/SPLIT, train, evaluate; on a cluster one that all
    nodes share. `shards.SPLIT.out` puts shards elsewhere, such as into an object store."""
    shards: dict[str, AnySource]
    """A source for each split."""
    train: TrainConfig
    """How to train."""
    evaluate: EvaluateConfig
    """How to evaluate."""
    tracking: TrackingConfig
    """Where MLflow keeps the runs of this run."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("out"):
            return values
        if "://" in str(values["out"]):
            raise ValueError(
                f"out: {redact(str(values['out']))} is an address; training needs a folder, which "
                "all nodes share, and shards go to a store by shards.SPLIT.out=s3://BUCKET/FOLDER"
            )
        out = Path(str(values["out"]))
        splits = _options(values, "shards")
        if TRAIN not in splits:
            raise ValueError(f"shards: no split {TRAIN}; name a source for shards.{TRAIN}")
        mixed = [split for split in splits if split.split("_")[0] == TRAIN]
        held_out = [split for split in splits if split not in (*mixed, VALIDATION)]
        if not held_out and VALIDATION not in splits:
            raise ValueError("shards: nothing to evaluate on; name a source for shards.test")
        shards = {
            split: {"out": str(out / "shards" / split), "split": split} | _options(splits, split)
            for split in splits
        }
        tracking = {"uri": f"sqlite:///{out.absolute() / 'mlflow.db'}"} | _options(
            values, "tracking"
        )
        train = {"output": str(out / "train"), "tracking": tracking} | _options(values, "train")
        folders = {split: str(options["out"]) for split, options in shards.items()}
        train["data"] = {
            "shards": [folders[split] for split in mixed],
            "validation_shards": folders.get(VALIDATION),
        } | _options(train, "data")
        evaluate = {
            "shards": [folders[split] for split in held_out or [VALIDATION]],
            "model": str(Path(train["output"]) / "model"),
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
    """What a configuration has below a name; nothing where it leaves that open."""
    found = values.get(name)
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{name}: {found!r} where options are expected")
    return found or {}
