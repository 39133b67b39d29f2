"""The stages that can run as jobs, and how their configurations are checked."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import yaml

from ucn.config import FrozenConfig
from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.pipeline.arguments import parse
from ucn.pipeline.config import RunConfig
from ucn.preprocessing.sources.registry import SOURCES
from ucn.training.config import TrainConfig

Stage = Literal["preprocess", "train", "evaluate", "run"]

DEBUG = "UCN_DEBUG"
"""Environment variable: show the traceback of an unexpected error."""


def check_stage(stage: Stage, values: Mapping[str, Any]) -> FrozenConfig:
    """The configuration that the command of a stage makes of merged values.

    Raises:
        UserError: an option is unknown, missing or invalid.
    """
    if stage == "run":
        return RunConfig(**values)
    if stage == "preprocess":
        options = dict(values)
        name = options.pop("source", None)
        if not isinstance(name, str):
            raise UserError("source: missing; add one, such as source=kitti-raw")
        return SOURCES.load(name)(**options)
    model = TrainConfig if stage == "train" else EvaluateConfig
    words = [f"{key}={to_yaml(value)}" for key, value in values.items()]
    config: FrozenConfig = parse(model, words, f"ucn {stage}", "", layered=True)
    return config


def guess_stage(values: Mapping[str, Any]) -> Stage:
    """Guesses the stage of a configuration from options that only this stage has."""
    if isinstance(values.get("shards"), Mapping):
        return "run"
    if "source" in values:
        return "preprocess"
    return "evaluate" if {"shards", "model", "baselines"} & set(values) else "train"


def to_yaml(values: Any) -> str:
    """Values as YAML in one line. Their order is kept, as that of a run's splits has a meaning."""
    text: str = yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=2**31)
    return text.removesuffix("...\n").strip()


def stage_command(stage: Stage, values: Mapping[str, Any]) -> Sequence[str]:
    """The command of a stage that reads its configuration from standard input."""
    source = [str(values["source"])] if stage == "preprocess" else []
    return ["ucn", stage, *source, "--config", "/dev/stdin"]
