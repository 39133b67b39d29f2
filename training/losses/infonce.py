"""Cross entropy over all positions of the other image, or of the batch (InfoNCE).

van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, Eq. 4,
with every valid cell beyond the exclusion radius, and every cell of other images, as a negative.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.config import LossConfig
from training.losses.terms import Direction, mean_term
from training.mining.exclusion import excluded_cells


def infonce_loss(directions: Sequence[Direction], config: LossConfig) -> Tensor:
    """Mean over directions and queries of ``-log(e^(p/t) / (e^(p/t) + sum_cells e^(s/t)))``.

    Holds one [N, M] matrix a direction for the gradient. Zero, with a gradient of zero, without
    queries.

    Args:
        directions: the directions of a pair.
        config: ``temperature`` t is read.
    """
    return mean_term([_cross_entropy(direction, config.temperature) for direction in directions])


def _cross_entropy(direction: Direction, temperature: float) -> Tensor:
    queries_ND = direction.queries_ND / temperature
    positive_N = (queries_ND * direction.positives_ND).sum(dim=1)
    index_NK, inside_NK = excluded_cells(direction.points_N2, direction.grid, direction.radius)
    row_E, k_E = inside_NK.nonzero(as_tuple=True)
    excluded_E = row_E * len(direction.cells_MD) + index_NK[row_E, k_E]
    loss_N: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        queries_ND, direction.cells_MD, positive_N, excluded_E, direction.valid_M
    )
    return loss_N


class _CrossEntropy(torch.autograd.Function):
    """``log(e^p + sum_cells e^s) - p`` of each query, in one matrix that is overwritten.

    What autograd would keep of the chain of operations is several such matrices.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries_ND: Tensor,
        cells_MD: Tensor,
        positive_N: Tensor,
        excluded_E: Tensor,
        valid_M: Tensor | None,
    ) -> Tensor:
        scores_NM = queries_ND @ cells_MD.T
        scores_NM.view(-1).index_fill_(0, excluded_E, -torch.inf)
        if valid_M is not None:
            scores_NM.masked_fill_(~valid_M, -torch.inf)
        largest_N = torch.maximum(scores_NM.amax(dim=1), positive_N)
        shares_NM = scores_NM.sub_(largest_N[:, None]).exp_()
        right_N = (positive_N - largest_N).exp()
        total_N = shares_NM.sum(dim=1) + right_N
        shares_NM /= total_N[:, None]
        ctx.save_for_backward(queries_ND, cells_MD, shares_NM, right_N / total_N)
        return total_N.log() + largest_N - positive_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_N: Tensor) -> tuple[Tensor | None, ...]:
        queries_ND, cells_MD, shares_NM, right_N = ctx.saved_tensors
        scaled_ND = queries_ND * slope_N[:, None]
        slope_queries_ND = (shares_NM @ cells_MD) * slope_N[:, None]
        return slope_queries_ND, shares_NM.T @ scaled_ND, slope_N * (right_N - 1), None, None
