"""The demo: the preset ``configs/demo.yaml`` in a folder of choice."""

from importlib.resources import files

import yaml

from pipeline.config import RunConfig


def demo_config(out: str) -> RunConfig:
    """The demo's run, with everything it makes under ``out``."""
    preset = yaml.safe_load(files("configs").joinpath("demo.yaml").read_text())
    for options in preset["shards"].values():
        if "root" in options:
            options["root"] = options["root"].replace("runs/demo", out)
    return RunConfig(**preset | {"out": out})
