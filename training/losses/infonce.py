"""Cross entropy over all positions of the other image (InfoNCE).

van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, Eq. 4,
with every valid cell beyond the exclusion radius as a negative.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from training.config import LossConfig
from training.losses.terms import Direction
from training.mining.exclusion import excluded_cells


def infonce_loss(directions: Sequence[Direction], config: LossConfig) -> Tensor:
    """Mean over directions and queries of ``-log(e^(p/t) / (e^(p/t) + sum_cells e^(s/t)))``.

    Holds one [N, M] matrix a direction for the gradient. Zero, with a gradient of zero, without
    queries.

    Args:
        directions: the directions of a pair.
        config: ``temperature`` t is read.
    """
    terms = [_cross_entropy(direction, config.temperature) for direction in directions]
    return torch.cat(terms).sum() / max(sum(map(len, terms)), 1)


def _cross_entropy(direction: Direction, temperature: float) -> Tensor:
    queries_ND = direction.queries_ND / temperature
    logits_NM = queries_ND @ direction.cells_MD.T
    excluded_NM = torch.zeros_like(logits_NM, dtype=torch.bool)
    index_NK, inside_NK = excluded_cells(direction.points_N2, direction.grid, direction.radius)
    row_E, k_E = inside_NK.nonzero(as_tuple=True)
    excluded_NM[row_E, index_NK[row_E, k_E]] = True
    if direction.valid_M is not None:
        excluded_NM |= ~direction.valid_M
    positive_N1 = (queries_ND * direction.positives_ND).sum(dim=1, keepdim=True)
    logits = torch.cat([positive_N1, logits_NM.masked_fill_(excluded_NM, -torch.inf)], dim=1)
    return logits.logsumexp(dim=1) - positive_N1[:, 0]
