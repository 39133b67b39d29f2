"""Where a configuration reads and writes: its paths and URIs, with the option that names each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ucn.config import FrozenConfig
from ucn.evaluation.config import EvaluateConfig
from ucn.pipeline.config import RunConfig
from ucn.preprocessing.config import PreprocessConfig
from ucn.training.config import TrackingConfig, TrainConfig

SQLITE = "sqlite:///"
Role = Literal["input", "output", "made"]

# Options of sources that name places, as far as they do not count from the root.
_SOURCE_INPUTS = ("root", "pairs_file", "objects")


@dataclass(frozen=True)
class Place:
    """One place.

    Attributes:
        option: that names it, such as ``shards.train.root``.
        uri: a path or URI, as configured.
        role: ``input`` is there before, ``output`` is written, ``made`` is written by one stage of
            the configuration and read by the next.
    """

    option: str
    uri: str
    role: Role


def places_of(config: FrozenConfig) -> list[Place]:
    """The places of a stage's configuration, except MLflow's; each once."""
    found: dict[str, Place] = {}
    for place in _places(config):
        found.setdefault(place.uri, place)
    return list(found.values())


def tracking_of(config: FrozenConfig) -> TrackingConfig | None:
    """Where MLflow keeps the runs; None where none are kept."""
    tracking = getattr(config, "tracking", None)
    return tracking if isinstance(tracking, TrackingConfig) and tracking.enabled else None


def _places(config: FrozenConfig) -> Iterator[Place]:
    if isinstance(config, RunConfig):
        yield Place("out", config.out, "output")
        made = set()
        for split, source in config.shards.items():
            yield from _below(f"shards.{split}", _source_places(source))
            made.add(source.out)
        made.add(str(Path(config.train.output) / "model"))
        for name, part in (("train", config.train), ("evaluate", config.evaluate)):
            for place in _below(name, _places(part)):
                yield Place(place.option, place.uri, "made" if place.uri in made else place.role)
    elif isinstance(config, PreprocessConfig):
        yield from _source_places(config)
    elif isinstance(config, TrainConfig):
        yield from _train_places(config)
    elif isinstance(config, EvaluateConfig):
        yield from _evaluate_places(config)


def _below(name: str, places: Iterator[Place]) -> Iterator[Place]:
    for place in places:
        yield Place(f"{name}.{place.option}", place.uri, place.role)


def _source_places(config: PreprocessConfig) -> Iterator[Place]:
    for name in _SOURCE_INPUTS:
        value = getattr(config, name, None)
        if value is not None:
            # Worlds are made below their root.
            role: Role = "output" if config.source == "synthetic" else "input"
            yield Place(name, str(value), role)
    yield Place("out", config.out, "output")


def _train_places(config: TrainConfig) -> Iterator[Place]:
    for uri in config.data.shards:
        yield Place("data.shards", uri, "input")
    yield from _named("data.validation_shards", config.data.validation_shards)
    yield from _named("network.weights", config.network.weights)
    yield Place("output", str(config.output), "output")


def _evaluate_places(config: EvaluateConfig) -> Iterator[Place]:
    for uri in config.shards:
        yield Place("shards", uri, "input")
    for model in config.model:
        uri = model.partition("=")[2] or model
        if uri != "shipped":
            yield Place("model", uri, "input")
    yield from _named("googlenet_weights", config.googlenet_weights)
    for folder in config.patches:
        yield Place("patches", str(folder), "input")
    yield Place("output", str(config.output), "output")
    yield from _named("json_path", config.json_path, "output")


def _named(option: str, value: str | Path | None, role: Role = "input") -> Iterator[Place]:
    if value is not None:
        yield Place(option, str(value), role)


def strings_of(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a tree of values, with the option that it stands at."""
    if isinstance(values, str):
        yield name, values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from strings_of(value, f"{name}.{key}" if name else str(key))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from strings_of(value, name)
