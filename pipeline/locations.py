"""Storage locations of a configuration: its paths and URIs, with the option that names each."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ucn.config import FrozenConfig
from ucn.evaluation.config import EvaluateConfig
from ucn.pipeline.config import RunConfig
from ucn.preprocessing.config import PreprocessConfig
from ucn.training.config import TrackingConfig, TrainConfig

Role = Literal["input", "output", "intermediate"]

# Options of sources that name locations, except those relative to `root`.
_SOURCE_INPUTS = ("root", "pairs_file", "objects")


@dataclass(frozen=True)
class Location:
    """One storage location.

    Attributes:
        option: option that names it, such as ``shards.train.root``.
        uri: path or URI, as configured.
        role: ``input`` exists before, ``output`` is written, ``intermediate`` is written by one
            stage of the configuration and read by the next.
    """

    option: str
    uri: str
    role: Role

    @property
    def is_local_output(self) -> bool:
        return self.role == "output" and "://" not in self.uri


def locations_of(config: FrozenConfig) -> list[Location]:
    """The distinct locations of a stage's configuration, except MLflow's tracking URI."""
    found: dict[str, Location] = {}
    for location in _locations(config):
        found.setdefault(location.uri, location)
    return list(found.values())


def tracking_of(config: FrozenConfig) -> TrackingConfig | None:
    """MLflow's options; None if the stage does not track."""
    tracking = getattr(config, "tracking", None)
    return tracking if isinstance(tracking, TrackingConfig) and tracking.enabled else None


def _locations(config: FrozenConfig) -> Iterator[Location]:
    if isinstance(config, RunConfig):
        yield from _run_locations(config)
    elif isinstance(config, PreprocessConfig):
        for name in _SOURCE_INPUTS:
            # The synthetic source writes its scenes into its root.
            role: Role = "output" if config.source == "synthetic" else "input"
            yield from _named(name, getattr(config, name, None), role)
        yield Location("out", config.out, "output")
    elif isinstance(config, TrainConfig):
        for uri in config.data.shards:
            yield Location("data.shards", uri, "input")
        yield from _named("data.validation_shards", config.data.validation_shards)
        yield from _named("network.weights", config.network.weights)
        yield Location("output", config.output, "output")
    elif isinstance(config, EvaluateConfig):
        for uri in config.shards:
            yield Location("shards", uri, "input")
        for model in config.model:
            uri = model.partition("=")[2] or model
            if uri != "shipped":
                yield Location("model", uri, "input")
        for value in config.external:
            yield Location("external", value.partition("=")[2], "input")
        yield from _named("googlenet_weights", config.googlenet_weights)
        for folder in config.patches:
            yield Location("patches", str(folder), "input")
        yield Location("output", str(config.output), "output")
        yield from _named("json_path", config.json_path, "output")


def _run_locations(config: RunConfig) -> Iterator[Location]:
    yield Location("out", config.out, "output")
    for split, source in config.shards.items():
        for location in _locations(source):
            yield replace(location, option=f"shards.{split}.{location.option}")
    made = {source.out for source in config.shards.values()}
    made.add(f"{config.train.output}/model")
    for name, part in (("train", config.train), ("evaluate", config.evaluate)):
        for location in _locations(part):
            role: Role = "intermediate" if location.uri in made else location.role
            yield replace(location, option=f"{name}.{location.option}", role=role)


def _named(option: str, value: str | Path | None, role: Role = "input") -> Iterator[Location]:
    if value is not None:
        yield Location(option, str(value), role)
