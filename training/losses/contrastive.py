"""The correspondence contrastive loss.

Choy et al., "Universal Correspondence Network", NIPS 2016, Eq. 1:
``L = 1 / (2 N) * sum_i [ s_i d_i^2 + (1 - s_i) max(0, m - d_i)^2 ]`` with d the L2 distance.
"""

import torch
from torch import Tensor

from ucn.training.config import LossConfig
from ucn.training.losses.terms import Directions, mean_term, negative_distance, squared_distance


def contrastive_loss(directions: Directions, config: LossConfig) -> Tensor:
    """Eq. 1 over each image pair, [pairs].

    The terms are the positives (once each: both directions see the same distance) and the valid
    negatives of both directions; N is their number. Zero, with a gradient of zero, if there are
    none.

    Args:
        directions: the two directions of each pair.
        config: ``margin`` m is read.
    """
    distance_BN, exists_BN = negative_distance(directions)
    negative_BN = (config.margin - distance_BN).clamp_min(0).square()
    terms_BN = torch.cat([squared_distance(directions), negative_BN], dim=1)
    weights_BN = torch.cat([directions.present_BN / 2, exists_BN], dim=1)
    return mean_term(terms_BN, weights_BN) / 2
