"""The average of the weights against its closed form."""

import pytest
import torch
from torch import nn

from ucn.training.loop.ema import EMA


def test_average_is_the_weighted_sum_of_all_weights() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = EMA(network, 0.5)
    generator = torch.Generator().manual_seed(3)
    expected = {name: value.double() for name, value in network.state_dict().items()}
    for step in range(12):
        for parameter in network.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        network(torch.randn(5, 3, generator=generator))  # moves the running statistics
        average.update(network, step)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    for name, value in average.weights.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
        else:
            assert value == 12


def test_network_has_the_average_for_a_moment_only() -> None:
    network = nn.Linear(2, 1)
    average = EMA(network, 0.9)
    before = network.weight.detach().clone()
    network.weight.data += 1
    with pytest.raises(RuntimeError), average.in_place(network):
        assert torch.equal(network.weight, before)
        raise RuntimeError
    assert torch.equal(network.weight, before + 1)
