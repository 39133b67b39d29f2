"""The stages that run as jobs, and how the configuration of each is read and checked."""

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
"""The variable with which a command shows the traceback of a fault of ours."""


def check_stage(stage: Stage, values: Mapping[str, Any]) -> FrozenConfig:
    """The configuration of a stage, as the command of that name would have it.

    Args:
        stage: its name.
        values: merged layers, as :func:`.arguments.read_layers` gives them.

    Raises:
        UserError: an option is unknown or missing, or does not fit.
    """
    if stage == "run":
        return RunConfig(**values)
    if stage == "preprocess":
        options = dict(values)
        name = options.pop("source", None)
        if not isinstance(name, str):
            raise UserError("source: not given; name one, such as source=kitti-raw")
        return SOURCES.load(name)(**options)
    model = TrainConfig if stage == "train" else EvaluateConfig
    words = [f"{key}={to_yaml(value)}" for key, value in values.items()]
    config: FrozenConfig = parse(model, words, f"ucn {stage}", "", layered=True)
    return config


def guess_stage(values: Mapping[str, Any]) -> Stage:
    """Which stage a configuration is for, by what only that one has."""
    if isinstance(values.get("shards"), Mapping):
        return "run"
    if "source" in values:
        return "preprocess"
    return "evaluate" if {"shards", "model", "baselines"} & set(values) else "train"


def to_yaml(values: Any) -> str:
    """Values as YAML in flow style, in their order: that of a run's splits has a meaning."""
    text: str = yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=2**31)
    return text.removesuffix("...\n").strip()


def stage_command(stage: Stage, values: Mapping[str, Any]) -> Sequence[str]:
    """The words of the command that reads the configuration from its standard input."""
    source = [str(values["source"])] if stage == "preprocess" else []
    return ["ucn", stage, *source, "--config", "/dev/stdin"]
