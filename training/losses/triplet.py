"""The triplet loss: the positive is nearer than the negative by a margin.

Schroff et al., "FaceNet", CVPR 2015, section 3.1, with L2 distances that are not squared (Hermans
et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017, section 2):
``L = 1 / |V| sum_V max(0, d_positive - d_negative + m)``.
"""

from torch import Tensor

from ucn.training.config import LossConfig
from ucn.training.losses.terms import Directions, distance, mean_term, negative_distance


def triplet_loss(directions: Directions, config: LossConfig) -> Tensor:
    """Mean over V, the queries of both directions of a pair that have a negative: [pairs].

    Zero, with a gradient of zero, if there are none.

    Args:
        directions: the two directions of each pair.
        config: ``margin`` m is read.
    """
    negative_BN, exists_BN = negative_distance(directions)
    positive_BN = distance(directions.queries_BND, directions.positives_BND)
    return mean_term((positive_BN - negative_BN + config.margin).clamp_min(0), exists_BN)
