"""The base of configurations: old names of options, and what identifies a configuration."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

from ucn.config import FrozenConfig
from ucn.errors import UserError
from ucn.training.config import TrainConfig

ROOT = Path(__file__).parents[1]


class Search(FrozenConfig):
    renamed: ClassVar = {"every": "stride", "pool": ("shared", lambda pool: pool == "group")}

    stride: int = 1
    shared: bool = False
    memory: int = 64


class Settings(FrozenConfig):
    source: str
    search: Search = Search(stride=3)
    options: dict[str, int] = Field(default_factory=dict)
    seed: int = 0


@pytest.mark.parametrize("make", [Settings.model_validate, lambda values: Settings(**values)])
def test_old_names_are_read(make: Any) -> None:
    new = make({"source": "s", "search": {"stride": 2, "shared": True}})
    assert make({"source": "s", "search": {"every": 2, "pool": "group"}}) == new
    assert Search(every=2) == Search(stride=2)


def test_the_old_and_the_new_name_at_once_are_refused() -> None:
    with pytest.raises(UserError, match=r"search\.every: .*search\.stride"):
        Settings.model_validate({"source": "s", "search": {"every": 2, "stride": 2}})


@pytest.mark.parametrize(
    ("values", "identity"),
    [
        ({}, {}),
        ({"seed": 0, "search": {"stride": 3}}, {}),
        ({"seed": 1}, {"seed": 1}),
        ({"options": {"a": 1}}, {"options": {"a": 1}}),
        # Defaults are those of the outer configuration, and names the first ones.
        ({"search": {"stride": 1}}, {"search": {"every": 1}}),
        ({"search": {"stride": 3, "shared": True}}, {"search": {"shared": True}}),
        ({"search": {"stride": 3, "memory": 1}}, {}),  # left out
    ],
)
def test_identity_has_what_differs_from_the_defaults(
    values: dict[str, Any], identity: dict[str, Any]
) -> None:
    config = Settings.model_validate({"source": "s"} | values)
    assert config.identity(exclude={"search.memory"}) == {"source": "s"} | identity


def test_the_stored_configuration_of_the_shipped_model_is_read() -> None:
    stored = json.loads((ROOT / "models/small/config.json").read_text())["training"]
    config = TrainConfig.model_validate(stored)
    assert config.mining.search_stride == stored["mining"]["every"] == 2
    assert config.mining.cross_pair_negatives is False
    assert config.schedule.ema_decay == stored["schedule"]["average"] == 0.998
