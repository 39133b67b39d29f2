"""Models, checkpoints and results from a stranger: nothing executed, nothing grows huge."""

import json
import pickle
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ucn.errors import UserError
from ucn.evaluation.matches import Matches, MatchTable
from ucn.training.config import NetworkConfig
from ucn.training.loop.checkpoint import STATE, load_checkpoint, save_checkpoint
from ucn.training.model import CONFIG, WEIGHTS, load_model, save_model
from ucn.training.networks import build_network
from ucn.training.networks.published_weights import read_published


@pytest.fixture
def model(tmp_path: Path) -> Path:
    config = NetworkConfig(name="small", options={"width": 8, "dimension": 8})
    save_model(tmp_path / "model", build_network(config.name, config.options), config)
    return tmp_path / "model"


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def pack(path: Path) -> None:
    """Write a zip again with its members compressed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_a_checkpoint_that_would_execute_code(tmp_path: Path, victim: Path, trap: object) -> None:
    torch.save({"network": {}, "step": trap}, tmp_path / STATE)
    said = refusal(lambda: load_checkpoint(tmp_path))
    assert said.startswith(f"{tmp_path / STATE}: cannot be resumed from (")
    assert not victim.exists()


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\3\4" + bytes(50), b"\x80\x02."])
def test_a_checkpoint_that_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / STATE).write_bytes(data)
    assert "cannot be resumed from" in refusal(lambda: load_checkpoint(tmp_path))


def test_packed_checkpoints_and_weights_are_not_unpacked(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"network": torch.zeros(5_000_000)})
    assert load_checkpoint(tmp_path)["network"].shape == (5_000_000,)
    pack(tmp_path / STATE)
    assert (tmp_path / STATE).stat().st_size < 100_000
    assert "members are compressed" in refusal(lambda: load_checkpoint(tmp_path))
    (tmp_path / STATE).rename(tmp_path / "weights.pth")
    assert "damaged, or no weights" in refusal(lambda: read_published(tmp_path / "weights.pth"))


@pytest.mark.parametrize("width", [20_000, 10**9, 10**30])
def test_a_model_that_asks_for_a_giant_network(model: Path, width: int) -> None:
    record = json.loads((model / CONFIG).read_text())
    record["network"]["options"]["width"] = width
    (model / CONFIG).write_text(json.dumps(record))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = refusal(lambda: load_model(model))
    assert "damaged model" in said or "do not fit network" in said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"


def test_an_artifact_of_mlflow_with_code(model: Path, victim: Path, trap: object) -> None:
    """What `mlflow.pyfunc` would execute lies there, and is not looked at."""
    code = f"from pathlib import Path\nPath({str(victim)!r}).touch()\n"
    (model / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: evil\n    code: code\n"
        "    python_model: python_model.pkl\n"
    )
    (model / "code").mkdir()
    for path in ("code/evil.py", "evil.py", "__init__.py", "sitecustomize.py"):
        (model / path).write_text(code)
    (model / "python_model.pkl").write_bytes(pickle.dumps(trap))
    (model / "conda.yaml").write_text("!!python/object/apply:os.system ['touch sprung']")
    assert load_model(model).config.network.name == "small"
    (model / WEIGHTS).write_bytes(pickle.dumps(trap))
    assert "damaged model" in refusal(lambda: load_model(model))
    torch.save(trap, model / WEIGHTS)
    assert "damaged model" in refusal(lambda: load_model(model))
    (model / CONFIG).unlink()
    assert "no model (config.json is missing)" in refusal(lambda: load_model(model))
    assert not victim.exists()


@pytest.mark.parametrize(
    "place", ["runs:/0123456789abcdef/model", "models:/ucn/1", "pipe:touch sprung", "-"]
)
def test_addresses_that_are_no_folders(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"{place}: no model" in refusal(lambda: load_model(place))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "small; import os",
        "../evil",
        "__class__",
        "ucn.training.networks.small",
        "evil:Network",
        "model.evil:Network",
        "os:system",
        "torch.nn:Linear",
        "os:",
        ":",
    ],
)
def test_networks_come_from_the_list_or_from_imported_modules(
    model: Path, name: str, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from the model's folder nor its neighbours, even where these are on the path."""
    monkeypatch.chdir(model.parent)
    monkeypatch.syspath_prepend(str(model.parent))
    for path in (model / "evil.py", model.parent / "evil.py"):
        path.write_text(f"from pathlib import Path\nPath({str(victim)!r}).touch()\n")
    record = json.loads((model / CONFIG).read_text())
    record["network"]["name"] = name
    (model / CONFIG).write_text(json.dumps(record))
    assert refusal(lambda: load_model(model))
    assert not victim.exists()


def test_a_safetensors_header_that_promises_too_much(model: Path) -> None:
    data = (model / WEIGHTS).read_bytes()
    for header in (
        (2**62).to_bytes(8, "little") + data[8:],
        b'\x50\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}'.ljust(
            88
        )
        + bytes(4),
    ):
        (model / WEIGHTS).write_bytes(header)
        assert "damaged model" in refusal(lambda: load_model(model))


def test_match_tables_of_a_stranger_are_ignored(tmp_path: Path) -> None:
    path, parts, identity = tmp_path / "ucn.parquet", tmp_path / "parts", "f" * 64
    MatchTable(path, parts, identity).keep(3, {"point": Matches.bare(np.zeros((2, 4), np.float32))})
    (part,) = parts.iterdir()
    assert 3 in MatchTable(path, parts, identity)
    table = pq.read_table(part)
    one = table.slice(0, 1)
    huge = pa.concat_tables([one] * 2**10).combine_chunks()
    huge = pa.concat_tables([huge] * 2**12).combine_chunks()
    for damaged in (huge, table.drop_columns("x0"), table.append_column("more", table["x0"])):
        pq.write_table(damaged, part)
        assert part.stat().st_size < 2**20
        assert 3 not in MatchTable(path, parts, identity)
    part.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    assert 3 not in MatchTable(path, parts, identity)
