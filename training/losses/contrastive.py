"""The correspondence contrastive loss.

Choy et al., "Universal Correspondence Network", NIPS 2016, Eq. 1:
``L = 1 / (2 N) * sum_i [ s_i d_i^2 + (1 - s_i) max(0, m - d_i)^2 ]`` with d the L2 distance.
"""

from collections.abc import Sequence

from torch import Tensor

from ucn.training.config import LossConfig
from ucn.training.losses.terms import Direction, mean_term, negative_distance, squared_distance


def contrastive_loss(directions: Sequence[Direction], config: LossConfig) -> Tensor:
    """Eq. 1 over one image pair.

    The terms are the positives (once each: both directions see the same distance) and the valid
    negatives of every direction; N is their number. Zero, with a gradient of zero, if there are
    none.

    Args:
        directions: the two directions of a pair, or one.
        config: ``margin`` m is read.
    """
    first = directions[0]
    terms = [squared_distance(first.queries_ND, first.positives_ND)]
    for direction in directions:
        _, distance_V = negative_distance(direction)
        terms.append((config.margin - distance_V).clamp_min(0).square())
    return mean_term(terms) / 2
