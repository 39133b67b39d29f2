"""The correspondence contrastive loss.

Choy et al., "Universal Correspondence Network", NIPS 2016, Eq. 1:
``L = 1 / (2 N) * sum_i [ s_i d_i^2 + (1 - s_i) max(0, m - d_i)^2 ]`` with d the L2 distance.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from training.config import LossConfig
from training.losses.terms import Direction


def contrastive_loss(directions: Sequence[Direction], config: LossConfig) -> Tensor:
    """Eq. 1 over one image pair.

    The terms are the positives (once each: both directions see the same distance) and the valid
    negatives of every direction; N is their number. Zero, with a gradient of zero, if there are
    none.

    Args:
        directions: the two directions of a pair, or one.
        config: ``margin`` is read.
    """
    first = directions[0]
    losses = [squared_distance(first.queries_ND, first.positives_ND)]
    for direction in directions:
        negatives = direction.negatives
        valid_V = negatives.valid_N.nonzero()[:, 0]
        wrong_VD = direction.cells_MD[negatives.index_N[valid_V]]
        distance_V = _distance(direction.queries_ND[valid_V], wrong_VD)
        losses.append((config.margin - distance_V).clamp_min(0).square())
    terms = torch.cat(losses)
    return terms.sum() / (2 * max(len(terms), 1))


def squared_distance(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    """Squared L2 distance of corresponding rows, [N]."""
    return (a_ND - b_ND).square().sum(dim=-1)


def _distance(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    # The root's slope at zero is infinite; the floor makes the gradient of equal features zero.
    return squared_distance(a_ND, b_ND).clamp_min(1e-12).sqrt()
