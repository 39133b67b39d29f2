"""The hardest contrastive loss of Open-UCN.

Choy et al., "Fully Convolutional Geometric Features", ICCV 2019, as the code of FCGF has it
(`HardestContrastiveLossTrainer`; m_p = 0.1, m_n = 1.4), with d the L2 distance:
``L = 1 / |P| sum_P max(0, d^2 - m_p) + 1/2 sum_directions 1 / |V| sum_V max(0, m_n - d)^2``,
P the positives and V a direction's queries that have a negative.

Two things differ from Open-UCN's code (`UCNHardestContrastiveLossTrainer`). The miner leaves out
the cells near the truth before it takes the nearest one, and a mean over nothing is zero; there the
nearest of all is taken, then dropped if it lies near the truth of the *other* direction, and a mean
over nothing is NaN. And negatives have d, as in FCGF; Open-UCN has d^2 there under the same margin,
so that a negative costs nothing from d = 1.18 on.
"""

from torch import Tensor

from ucn.training.config import LossConfig
from ucn.training.losses.terms import Directions, mean_term, negative_distance, squared_distance


def hardest_contrastive_loss(directions: Directions, config: LossConfig) -> Tensor:
    """Mean of the positives plus the mean over directions of the means of their negatives, [pairs].

    A mean over nothing is zero, with a gradient of zero.

    Args:
        directions: the two directions of each pair.
        config: ``positive_margin`` m_p and ``negative_margin`` m_n are read.
    """
    positive_BN = (squared_distance(directions) - config.positive_margin).clamp_min(0)
    distance_BN, exists_BN = negative_distance(directions)
    negative_BN = (config.negative_margin - distance_BN).clamp_min(0).square()
    negative_P = mean_term(negative_BN, exists_BN, (2,)).mean(dim=1)
    return mean_term(positive_BN, directions.present_BN) + negative_P
