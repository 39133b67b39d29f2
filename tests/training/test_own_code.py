"""A network, a loss and a miner of a user's own package, through the registries."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ucn.config import FrozenConfig
from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import build_methods
from ucn.pipeline.config import RunConfig
from ucn.training.config import LossConfig, MiningConfig, NetworkConfig, TrainConfig
from ucn.training.data.collate import collate
from ucn.training.data.pairs import load_item
from ucn.training.loop.state import initial_state
from ucn.training.loop.step import Stepper
from ucn.training.model import load_model, save_model
from ucn.training.registry import LOSSES, MINERS, NETWORKS

PACKAGE = """
import torch
from torch import nn
from torch.nn import functional as F
from ucn.training.losses.triplet import triplet_loss
from ucn.training.mining.hard import mine_hard
from ucn.training.networks.base import DenseNetwork

calls = []

class Network(DenseNetwork):
    stride, offset, receptive_field, channels = 2, 0.5, 2, 1

    def __init__(self, dimension=8):
        super().__init__()
        self.dimension = dimension
        self.conv = nn.Conv2d(1, dimension, 2, 2)

    def forward(self, images):
        return F.normalize(self.conv(images).float(), dim=1)

def loss(directions, config):
    calls.append("loss")
    return 2 * triplet_loss(directions, config)

def miner(*arguments, **options):
    calls.append("miner")
    return mine_hard(*arguments, **options)

number = 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module that lies in the working directory."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "their_ucn.py").write_text(PACKAGE)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.delitem(sys.modules, "their_ucn", raising=False)
    return "their_ucn"


def own(package: str, **values: Any) -> dict[str, Any]:
    return {
        "network": {"name": f"{package}:Network", "options": {"dimension": 4}},
        "loss": {"name": f"{package}:loss"},
        "mining": {"name": f"{package}:miner"},
        **values,
    }


def test_they_train_and_their_model_is_loaded_again(
    package: str, tiny_config: TrainConfig, pairs: Any, tmp_path: Path
) -> None:
    config = TrainConfig(**(tiny_config.model_dump() | own(package)))
    state = initial_state(config, torch.device("cpu"))
    stepper = Stepper(config, state, state.network)
    before = {name: value.clone() for name, value in state.network.state_dict().items()}
    items = [load_item(pairs(4)[index], index, 0, 1, config) for index in range(4)]
    for step in (1, 2):
        stepper.step(step, collate(items).to(torch.device("cpu")))
    module = sys.modules[package]
    assert {"loss", "miner"} == set(module.__dict__["calls"])
    trained = state.network.state_dict()
    assert not torch.equal(trained["conv.weight"], before["conv.weight"])
    save_model(tmp_path / "model", state.network, config.network)
    image = np.random.default_rng(0).integers(0, 255, (40, 48), np.uint8)
    described = load_model(tmp_path / "model").extract(image).dense.map_DHW
    assert described.shape == (4, 20, 24)
    options = {"model": str(tmp_path / "model"), "shards": ("x",), "baselines": ()}
    assert [one.name for one in build_methods(EvaluateConfig(**options))] == ["ucn"]


def test_a_model_imports_nothing_by_itself(package: str, tmp_path: Path) -> None:
    config = NetworkConfig(name=f"{package}:Network")
    save_model(tmp_path / "model", NETWORKS.load(config.name)(), config)
    sys.modules.pop(package)
    message = f"model: its network {package}:Network is not imported; .* --imports {package}"
    with pytest.raises(UserError, match=message):
        load_model(tmp_path / "model")
    options = {"model": str(tmp_path / "model"), "shards": ("x",), "baselines": ()}
    build_methods(EvaluateConfig(**options, imports=(package,)))
    assert package in sys.modules


def test_a_run_imports_what_it_trains(package: str) -> None:
    values = {"out": "runs/x", "shards": {"train": {"source": "motorcycle"}}, "evaluate": {}}
    values["shards"]["test"] = {"source": "motorcycle"}
    assert RunConfig(**values, train={}).evaluate.imports == ()
    assert RunConfig(**values, train=own(package)).evaluate.imports == (package,)


@pytest.mark.parametrize(
    ("part", "name", "message"),
    [
        ("network", "their_ucn:Net", r"their_ucn:Net: not a subclass of .*DenseNetwork; name a"),
        ("network", "their_ucn:loss", "not a subclass of "),
        ("loss", "their_ucn:number", "their_ucn:number: not a function; name a loss as"),
        ("mining", "their_ucn:", "not a function; name a miner as package.module:function"),
        ("mining", "their_other:miner", "their_other: cannot be imported .*PYTHONPATH"),
        ("loss", "their_torn:loss", "their_torn: cannot be imported .SyntaxError"),
        ("network", "smal", "smal: no such network; did you mean small\\? there are small, google"),
        ("loss", "triplets", r"triplets: no such loss; did you mean triplet\?"),
        ("mining", "hardest", r"hardest: no such miner; did you mean hard\?"),
    ],
)
def test_what_is_none_is_told_in_one_line_at_once(
    package: str, part: str, name: str, message: str
) -> None:
    Path("their_torn.py").write_text("def")
    with pytest.raises(UserError, match=message) as caught:
        TrainConfig.model_validate({"loss": {"name": "triplet"}, part: {"name": name}})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "registry"), [(NetworkConfig, NETWORKS), (LossConfig, LOSSES), (MiningConfig, MINERS)]
)
def test_every_listed_name_is_there_and_in_the_help(
    kind: type[FrozenConfig], registry: Any
) -> None:
    text = kind.model_fields["name"].description or ""
    for name in registry.builtin:
        assert callable(registry.load(name))
        assert f"`{name}`" in text


def test_the_command_line_takes_them(package: str, tmp_path: Path) -> None:
    """As the console script has it: the current folder is not on the path."""
    code = "import sys; from ucn.pipeline.main import main; sys.exit(main(sys.argv[1:]))"
    words = [f"network.name={package}:Network", "data.shards=none", f"output={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "-c", code, "train", *words],
        env=os.environ | {"PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "none: no such folder of shards" in done.stderr
