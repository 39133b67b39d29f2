"""Cross entropy over all positions of the other image, or of the batch (InfoNCE).

van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, Eq. 4,
with every valid cell beyond the exclusion radius, and every cell of other images, as a negative.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ucn.matching.exclusion import exclude_, excluded_cells
from ucn.matching.search import chunks
from ucn.training.config import LossConfig
from ucn.training.losses.terms import Directions

_MEMORY_MIB, _TILE = 64, 1 << 23
"""Bounds on the similarities held at once; the number is that of a CPU."""
_LARGEST_EXPONENT = 40.0
"""Exponentials up to this are summed as they are, far from overflow."""


def infonce_loss(directions: Directions, config: LossConfig) -> Tensor:
    """Mean over directions and queries of ``-log(e^(p/t) / (e^(p/t) + sum_cells e^(s/t)))``.

    The gradient is taken along with the value, some queries at a time, so that memory is bounded.
    Zero, with a gradient of zero, without queries.

    Args:
        directions: the two directions of each pair. In bfloat16 (``product_dtype``), at a
            temperature of 0.07, the loss is off by less than 0.01, and its gradient by less than
            2 % of its length; at lower temperatures by more, in proportion.
        config: ``temperature`` t is read.

    Returns:
        [pairs].
    """
    queries_BND = directions.queries_BND / config.temperature
    # Rows that fill up a pair take no part in the gradient of the cells.
    queries_BND = queries_BND.where(directions.present_BN[..., None], 0)
    positive_BN = (queries_BND * directions.positives_BND).sum(dim=2)
    index_BNK, inside_BNK = excluded_cells(
        directions.points_BN2, directions.grid, directions.radius
    )
    sum_B: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        queries_BND,
        directions.cells_BMD,
        positive_BN,
        directions.present_BN,
        index_BNK,
        inside_BNK,
        directions.valid_BM,
        1 / config.temperature,
        directions.product_dtype,
    )
    count_P = directions.present_BN.sum(dim=1).view(-1, 2).sum(dim=1)
    return sum_B.view(-1, 2).sum(dim=1) / count_P.clamp(min=1)


class _CrossEntropy(torch.autograd.Function):
    """Sums over queries of ``log(e^p + sum_cells e^s) - p``, s the queries' inner products: [B]."""

    @staticmethod
    def forward(
        ctx: Any,
        queries_BND: Tensor,
        cells_BMD: Tensor,
        positive_BN: Tensor,
        present_BN: Tensor,
        index_BNK: Tensor,
        inside_BNK: Tensor,
        valid_BM: Tensor | None,
        largest: float,
        dtype: torch.dtype,
    ) -> Tensor:
        """Args: largest: bound on the inner products; dtype: of the products with all cells."""
        slope_queries_BND = torch.empty_like(queries_BND)
        slope_cells_BMD = torch.zeros_like(cells_BMD)
        largest_BN = torch.zeros_like(positive_BN)
        all_BN = torch.empty_like(positive_BN)
        for part in chunks(queries_BND, cells_BMD.shape[1], _MEMORY_MIB, _TILE):
            queries_bnD, cells_bMD = queries_BND[part], cells_BMD[part[0]].to(dtype)
            scores_bnM = torch.bmm(queries_bnD.to(dtype), cells_bMD.mT)
            exclude_(scores_bnM, index_BNK[part], inside_BNK[part])
            if valid_BM is not None:
                scores_bnM.masked_fill_(~valid_BM[part[0], None], -torch.inf)
            if largest > _LARGEST_EXPONENT:
                largest_bn = torch.maximum(scores_bnM.amax(dim=2), positive_BN[part].to(dtype))
                largest_BN[part] = largest_bn
                scores_bnM.sub_(largest_bn[..., None])
            largest_bn1 = largest_BN[part][..., None]
            shares_bnM = scores_bnM.exp_()
            right_bn1 = (positive_BN[part][..., None] - largest_bn1).exp_()
            all_bn1 = shares_bnM.sum(dim=2, keepdim=True) + right_bn1
            slope_queries_BND[part] = torch.bmm(shares_bnM, cells_bMD) / all_bn1
            # Transposed, which is faster than of transposed shares.
            slopes_bDM = torch.bmm((queries_bnD / all_bn1).to(dtype).mT, shares_bnM)
            slope_cells_BMD[part[0]] += slopes_bDM.mT
            all_BN[part] = all_bn1[..., 0]
        right_BN = (positive_BN - largest_BN).exp_()
        ctx.save_for_backward(slope_queries_BND, slope_cells_BMD, right_BN / all_BN - 1)
        terms_BN = all_BN.log() + largest_BN - positive_BN
        return terms_BN.where(present_BN, 0).sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_B: Tensor) -> tuple[Tensor | None, ...]:
        queries_BND, cells_BMD, positive_BN = ctx.saved_tensors
        slope_B1 = slope_B[:, None]
        slope_B11 = slope_B1[..., None]
        slopes = queries_BND * slope_B11, cells_BMD * slope_B11, positive_BN * slope_B1
        return *slopes, *[None] * 6
