"""Running statistics over the groups of a step."""

import pytest
import torch
from torch import nn

from ucn.training.loop.batch_statistics import BatchStatistics


@pytest.mark.parametrize("in_one_pass", [True, False])
def test_groups_are_normalised_apart_and_running_statistics_take_their_mean(
    in_one_pass: bool,
) -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network, apart = (
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, momentum=0.2)) for _ in range(2)
    )
    apart.load_state_dict(network.state_dict())
    norm = network[1]
    statistics = BatchStatistics(network, 2)
    mean, var = torch.zeros(3).double(), torch.ones(3).double()
    for _ in range(4):
        groups = torch.randn(5, 2, 1, 8, 8, generator=generator)
        passes = [groups.flatten(0, 1)] if in_one_pass else groups
        features = torch.cat([network(images) for images in passes])
        statistics.end_step(len(groups))
        expected = torch.cat([apart(group) for group in groups])
        torch.testing.assert_close(features, expected)
        slope = torch.randn(features.shape, generator=generator)
        gradients = torch.autograd.grad(features, network.parameters(), slope)
        torch.testing.assert_close(
            gradients,
            torch.autograd.grad(expected, apart.parameters(), slope),
            rtol=1e-5,
            atol=1e-4,
        )
        with torch.no_grad():
            features = network[0](groups.flatten(0, 1)).double().unflatten(0, (5, 2))
        own = features.transpose(1, 2).flatten(2)  # [groups, channels, values]
        mean = 0.8 * mean + 0.2 * own.mean(dim=2).mean(dim=0)
        var = 0.8 * var + 0.2 * own.var(dim=2).mean(dim=0)
    torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var.double(), var, rtol=1e-5, atol=1e-6)
    assert norm.num_batches_tracked == 4


def test_order_of_the_groups_does_not_matter() -> None:
    groups = torch.randn(4, 3, 6, 1, 1)
    norms = [nn.BatchNorm2d(6), nn.BatchNorm2d(6)]
    for norm, order in zip(norms, (groups, groups.flip(0)), strict=True):
        statistics = BatchStatistics(norm, 3)
        norm(order.flatten(0, 1))
        statistics.end_step(4)
    torch.testing.assert_close(norms[0].running_var, norms[1].running_var)


def test_without_norms_nothing_happens() -> None:
    network = nn.Linear(2, 2)
    statistics = BatchStatistics(network, 1)
    network(torch.zeros(1, 2))
    statistics.end_step(1)
