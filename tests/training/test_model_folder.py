"""Model folders: what is saved is what is loaded, and what is none is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ucn.errors import UserError
from ucn.training.config import NetworkConfig
from ucn.training.model import CONFIG, WEIGHTS, load_model, save_model
from ucn.training.networks import build_network


def save(folder: Path, name: str = "small") -> torch.nn.Module:
    config = NetworkConfig(name=name, options={"dimension": 16})
    network = build_network(config.name, config.options)
    with torch.no_grad():  # running statistics that are not those of a new network
        network(torch.rand(2, network.channels, 40, 40))
    save_model(folder, network, config, training_data="ab" * 32, scores={"validation/pck/3": 40.5})
    return network.eval()


@pytest.mark.parametrize("name", ["small", "googlenet"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    network = save(tmp_path / "model", name)
    model = load_model(tmp_path / "model")
    assert model.config.scores == {"validation/pck/3": 40.5}
    assert model.config.training_data == "ab" * 32
    assert (model.stride, model.offset) == (network.stride, network.offset)
    assert model.config.descriptor_dimension == 16
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    features = model.extract(image).dense.map_DHW
    assert features.shape[0] == 16
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=0), torch.ones_like(features[0]))
    images = torch.rand(1, network.channels, 50, 70)
    with torch.no_grad():
        torch.testing.assert_close(model.network(images), network(images))
    saved = load_file(tmp_path / "model" / WEIGHTS)
    assert saved.keys() == network.state_dict().keys()
    for key, value in network.state_dict().items():
        assert torch.equal(value, saved[key])
    assert not model.network.training
    grey = model.extract(image[..., 0]).dense.map_DHW
    assert not torch.equal(grey, features)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / CONFIG).unlink(), r"no model \(config\.json is missing"),
        (lambda f: (f / WEIGHTS).unlink(), r"model\.safetensors"),
        (lambda f: (f / CONFIG).write_text("{"), "damaged model"),
        (lambda f: (f / CONFIG).write_text('{"a": 1}'), "not of a model"),
        (lambda f: (f / WEIGHTS).write_bytes(b"\0" * 99), "damaged model"),
        (lambda f: change(f, network={"vgg: no such network": "vgg"}), "name"),
        (lambda f: change(f, network={"name": "small", "options": {"width": 8}}), "damaged model"),
        (lambda f: change(f, surprise=1), "surprise"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path, damage, message: str) -> None:
    save(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        load_model(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def change(folder: Path, **values: object) -> None:
    record = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(record | values))


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model"):
        load_model(tmp_path / "nowhere")
