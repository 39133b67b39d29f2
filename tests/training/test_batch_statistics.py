"""Running statistics over the groups of a step."""

import torch
from torch import nn

from ucn.training.loop.batch_statistics import BatchStatistics


def test_running_statistics_take_the_mean_over_the_groups() -> None:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    norm = network[1]
    statistics = BatchStatistics(network)
    mean, var = torch.zeros(3).double(), torch.ones(3).double()
    for _ in range(4):
        groups = torch.randn(5, 2, 1, 8, 8, generator=generator)
        statistics.begin_step()
        for group in groups:
            network(group).square().sum().backward()
            statistics.end_group()
        statistics.end_step(len(groups))
        with torch.no_grad():
            features = network[0](groups.flatten(0, 1)).double().unflatten(0, (5, 2))
        own = features.transpose(1, 2).flatten(2)  # [groups, channels, values]
        mean = 0.9 * mean + 0.1 * own.mean(dim=2).mean(dim=0)
        var = 0.9 * var + 0.1 * own.var(dim=2).mean(dim=0)
    torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var.double(), var, rtol=1e-5, atol=1e-6)


def test_order_of_the_groups_does_not_matter() -> None:
    groups = torch.randn(4, 3, 6)
    norms = [nn.BatchNorm1d(6), nn.BatchNorm1d(6)]
    for norm, order in zip(norms, (groups, groups.flip(0)), strict=True):
        statistics = BatchStatistics(norm)
        statistics.begin_step()
        for group in order:
            norm(group)
            statistics.end_group()
        statistics.end_step(4)
    torch.testing.assert_close(norms[0].running_var, norms[1].running_var)


def test_without_norms_nothing_happens() -> None:
    network = nn.Linear(2, 2)
    statistics = BatchStatistics(network)
    statistics.begin_step()
    statistics.end_group()
    statistics.end_step(1)
