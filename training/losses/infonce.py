"""Cross entropy over all positions of the other image, or of the batch (InfoNCE).

van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, Eq. 4,
with every valid cell beyond the exclusion radius, and every cell of other images, as a negative.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ucn.matching.exclusion import excluded_cells
from ucn.training.config import LossConfig
from ucn.training.losses.terms import Direction

_CHUNK = 1 << 19
"""Scores that a CPU holds at once: 2 MiB, about a core's cache."""


def infonce_loss(directions: Sequence[Direction], config: LossConfig) -> Tensor:
    """Mean over directions and queries of ``-log(e^(p/t) / (e^(p/t) + sum_cells e^(s/t)))``.

    The gradient is taken along with the value, a few queries at a time, so that on a CPU no
    [N, M] matrix leaves the cache. Zero, with a gradient of zero, without queries.

    Args:
        directions: the directions of a pair.
        config: ``temperature`` t is read.
    """
    sums = [_cross_entropy(direction, config.temperature) for direction in directions]
    count = sum(len(direction.queries_ND) for direction in directions)
    return torch.stack(sums).sum() / max(count, 1)


def _cross_entropy(direction: Direction, temperature: float) -> Tensor:
    queries_ND = direction.queries_ND / temperature
    positive_N = (queries_ND * direction.positives_ND).sum(dim=1)
    index_NK, inside_NK = excluded_cells(direction.points_N2, direction.grid, direction.radius)
    total: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        queries_ND, direction.cells_MD, positive_N, index_NK, inside_NK, direction.valid_M
    )
    return total


class _CrossEntropy(torch.autograd.Function):
    """Sum over queries of ``log(e^p + sum_cells e^s) - p``, with s the queries' inner products."""

    @staticmethod
    def forward(
        ctx: Any,
        queries_ND: Tensor,
        cells_MD: Tensor,
        positive_N: Tensor,
        index_NK: Tensor,
        inside_NK: Tensor,
        valid_M: Tensor | None,
    ) -> Tensor:
        slope_queries_ND = torch.empty_like(queries_ND)
        slope_cells_MD = torch.zeros_like(cells_MD)
        slope_positive_N = torch.empty_like(positive_N)
        total = positive_N.new_zeros(())
        on_cpu = queries_ND.device.type == "cpu"
        rows = max(1, _CHUNK // max(1, len(cells_MD))) if on_cpu else max(1, len(queries_ND))
        for first in range(0, len(queries_ND), rows):
            part = slice(first, first + rows)
            queries_nD, positive_n = queries_ND[part], positive_N[part]
            scores_nM = queries_nD @ cells_MD.T
            row_E, k_E = inside_NK[part].nonzero(as_tuple=True)
            excluded_E = row_E * len(cells_MD) + index_NK[part][row_E, k_E]
            scores_nM.view(-1).index_fill_(0, excluded_E, -torch.inf)
            if valid_M is not None:
                scores_nM.masked_fill_(~valid_M, -torch.inf)
            largest_n = torch.maximum(scores_nM.amax(dim=1), positive_n)
            shares_nM = scores_nM.sub_(largest_n[:, None]).exp_()
            right_n = (positive_n - largest_n).exp()
            all_n = shares_nM.sum(dim=1) + right_n
            total += (all_n.log() + largest_n - positive_n).sum()
            slope_queries_ND[part] = (shares_nM @ cells_MD) / all_n[:, None]
            slope_cells_MD.addmm_(shares_nM.T, queries_nD / all_n[:, None])
            slope_positive_N[part] = right_n / all_n - 1
        ctx.save_for_backward(slope_queries_ND, slope_cells_MD, slope_positive_N)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        queries_ND, cells_MD, positive_N = ctx.saved_tensors
        return queries_ND * slope, cells_MD * slope, positive_N * slope, None, None, None
