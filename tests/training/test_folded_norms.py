"""Folded normalisation computes what the network computes."""

from typing import Any

import pytest
import torch
from torch import nn

from ucn.training.networks import build_network
from ucn.training.networks.folded_norms import fold_norms

NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("small", {}),
    ("googlenet", {}),
    ("googlenet", {"transformer": "affine"}),
    ("efficientnet", {"dimension": 8}),
    ("resunet", {"variant": "BN2D2"}),
    ("resunet", {"variant": "BN2D2", "centred": False}),
]


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_features_are_the_same(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = build_network(name, {"dimension": 8, **options}).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for norm in norms(network):
            norm.running_mean = torch.randn_like(norm.bias)
            norm.running_var = 0.5 + torch.rand_like(norm.bias)
    images = torch.rand(2, network.channels, 40, 56, dtype=torch.float64)
    with torch.no_grad():
        expected = network(images)
        fold_norms(network)
        found = network(images)
    # The spatial transformer has no bias to take a shift.
    assert len(norms(network)) == (2 if options.get("transformer") else 0)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_a_norm_without_a_convolution_of_its_own_stays() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)).eval()
    fold_norms(network)
    assert isinstance(network[2], nn.BatchNorm2d)
