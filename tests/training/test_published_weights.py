"""Weights from outside: what is read, and what is refused without executing anything."""

import argparse
import os
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from ucn.errors import UserError
from ucn.training.networks.published_weights import read_published
from ucn.training.networks.resunet import ResUNetUCN


class EasyDict(dict[str, Any]):
    """Like easydict's: a dict whose items are attributes as well. Reading must not make one."""

    def __init__(self, items: dict[str, Any]) -> None:
        super().__init__()
        for name, value in items.items():
            value = EasyDict(value) if isinstance(value, dict) else value
            super().__setattr__(name, value)
            self[name] = value


class Command:
    """An object whose unpickling runs a command."""

    def __init__(self, function: Callable[..., Any], argument: str) -> None:
        self.function, self.argument = function, argument

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return self.function, (self.argument,)


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return {"a.weight": torch.randn(3, 2), "a.steps": torch.tensor(7)}


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write an object by torch.save, `EasyDict` under the name of the package's."""

    def write(content: object, **options: Any) -> Path:
        path = tmp_path / "weights.pth"
        with monkeypatch.context() as patch:
            module = types.ModuleType("easydict")
            module.__dict__["EasyDict"] = EasyDict
            patch.setitem(sys.modules, "easydict", module)
            patch.setattr(EasyDict, "__module__", "easydict")
            torch.save(content, path, **options)
        return path

    return write


def check(path: Path, expected: dict[str, Tensor]) -> None:
    found = read_published(path)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value)


@pytest.mark.parametrize("nest", [(), ("state_dict",), ("model",), ("model", "state_dict")])
def test_tensors_alone_or_nested(
    save: Callable[..., Path], tensors: dict[str, Tensor], nest: tuple[str, ...]
) -> None:
    content: dict[str, Any] = OrderedDict(tensors)
    for name in reversed(nest):
        content = {"epoch": 3, name: content}
    check(save(content), tensors)


def test_safetensors(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, tmp_path / "weights.safetensors")
    check(tmp_path / "weights.safetensors", tensors)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        EasyDict({"model": "ResUNetBN2F", "lr": 0.1, "inner": {"sizes": [1, 2]}, "resume": None}),
        argparse.Namespace(model="ResUNetBN2F", lr=0.1),
    ],
)
def test_checkpoints_in_the_form_of_open_ucn(
    save: Callable[..., Path], config: object, zipped: bool
) -> None:
    """Configuration, optimiser and schedule beside the weights; the older format of files too."""
    torch.manual_seed(0)
    network = ResUNetUCN("BN2F", 8)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.rand(1, 1, 16, 16)).sum().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.99)
    checkpoint = {
        "epoch": 100,
        "state_dict": network.state_dict(),
        "optimizer": optimiser.state_dict(),
        "scheduler": schedule.state_dict(),
        "config": config,
        "best_val": float("-inf"),
        "best_val_metric": "hit_ratio",
    }
    path = save(checkpoint, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError, match=r"easydict|argparse"):
        torch.load(path, weights_only=True)
    check(path, network.state_dict())
    fresh = ResUNetUCN("BN2F", 8)
    fresh.load_published(read_published(path))
    assert torch.equal(fresh.final.weight, network.final.weight)


@pytest.mark.parametrize("function", [os.system, eval, os.remove])
@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_files_are_refused_unexecuted(
    save: Callable[..., Path],
    tensors: dict[str, Tensor],
    tmp_path: Path,
    function: Callable[..., Any],
    zipped: bool,
) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    command = {
        os.system: f"rm {victim}",
        eval: f"__import__('os').remove({str(victim)!r})",
        os.remove: str(victim),
    }[function]
    path = save(
        {"state_dict": tensors, "config": Command(function, command)},
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(UserError, match=r"weights\.pth: holds more than tensors \(.+\)") as caught:
        read_published(path)
    assert "\n" not in str(caught.value)
    assert victim.exists()


def test_nothing_is_allowed_any_longer_afterwards(
    save: Callable[..., Path], tensors: dict[str, Tensor]
) -> None:
    before = set(torch.serialization.get_safe_globals())
    read_published(save({"state_dict": tensors, "config": EasyDict({"lr": 0.1})}))
    assert set(torch.serialization.get_safe_globals()) == before


def test_missing_empty_and_foreign_files(save: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("Not Found")
    (tmp_path / "text.safetensors").write_text("Not Found")
    (tmp_path / "empty.pt").touch()
    cases = [
        (tmp_path / "none.pth", "no such file; "),
        (tmp_path, "no such file; "),
        (tmp_path / "text.pth", "damaged, or no weights .*; "),
        (tmp_path / "text.safetensors", "damaged, or no weights .*; "),
        (tmp_path / "empty.pt", "damaged, or no weights .*; "),
        (save({"epoch": 3}), "holds no tensors by name; "),
        (save({"state_dict": {}}), "holds no tensors by name; "),
        (save(torch.zeros(3)), "holds no tensors by name; "),
    ]
    for path, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            read_published(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_shows_as_anything_but_a_user_error(
    save: Callable[..., Path], zipped: bool, data: st.DataObject
) -> None:
    """Cut off anywhere, or with other bytes in the pickle; a flipped weight can go unnoticed."""
    path = save({"state_dict": {"w": torch.ones(3)}}, _use_new_zipfile_serialization=zipped)
    content = bytearray(path.read_bytes())
    length = data.draw(st.integers(0, len(content) - 1))
    flips = data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))))
    cut = data.draw(st.booleans())
    for position, value in flips:
        content[position] = value
    path.write_bytes(content[:length] if cut else content)
    try:
        outcome = ", ".join(read_published(path))
    except UserError as error:
        outcome = str(error)
    assert outcome
    assert "\n" not in outcome
