"""A compiled network is used where its gradient is right, and refused where it is not."""

import shutil

import pytest
import torch
from torch import nn

from ucn.errors import UserError
from ucn.training.config import TrainConfig
from ucn.training.networks import build_network, compiled
from ucn.training.networks.compiled import compile_network


def test_a_wrong_gradient_is_refused(
    tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in for the compiler forgets a part of the gradient."""

    class Forgetful(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.network(images)
            return torch.cat([features[:, :-1].detach(), features[:, -1:]], dim=1)

    network = build_network("small", tiny_config.network.options)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    monkeypatch.setattr(compiled.torch, "compile", nn.Sequential)
    assert isinstance(compile_network(network, tiny_config), nn.Sequential)
    monkeypatch.setattr(compiled.torch, "compile", Forgetful)
    with pytest.raises(UserError, match=r"compile: .*another gradient; set compile=false"):
        compile_network(network, tiny_config)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_default_network_compiles(tiny_config: TrainConfig) -> None:
    config = tiny_config.model_copy(update={"network": TrainConfig().network})
    network = build_network("small", {})
    module = compile_network(network, config)
    image = torch.rand(4, 1, 64, 64)
    torch.testing.assert_close(module(image), network(image), rtol=1e-3, atol=1e-4)
