"""Configuration of `ucn demo`: ``configs/demo.yaml``, compared with the shipped model."""

from importlib.resources import files
from pathlib import Path

import yaml

from ucn.evaluation.methods.build import UCN
from ucn.pipeline.config import RunConfig
from ucn.training.model import SHIPPED


def demo_config(out: str) -> RunConfig:
    """The preset with all outputs below ``out``."""
    preset = yaml.safe_load(files("ucn.configs").joinpath("demo.yaml").read_text())
    for options in preset["shards"].values():
        if "root" in options:
            options["root"] = options["root"].replace("runs/demo", out)
    own = Path(out) / "train" / "model"
    preset["evaluate"]["model"] = [f"{UCN}={own}", SHIPPED]
    return RunConfig(**preset | {"out": out})
