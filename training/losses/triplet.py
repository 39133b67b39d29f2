"""The triplet loss: the positive is nearer than the negative by a margin.

Schroff et al., "FaceNet", CVPR 2015, section 3.1, with L2 distances that are not squared (Hermans
et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017, section 2):
``L = 1 / |V| sum_V max(0, d_positive - d_negative + m)``.
"""

from collections.abc import Sequence

from torch import Tensor

from ucn.training.config import LossConfig
from ucn.training.losses.terms import Direction, distance, mean_term, negative_distance


def triplet_loss(directions: Sequence[Direction], config: LossConfig) -> Tensor:
    """Mean over V, the queries of all directions that have a negative.

    Zero, with a gradient of zero, if there are none.

    Args:
        directions: the directions of a pair.
        config: ``margin`` m is read.
    """
    terms = []
    for direction in directions:
        kept_V, negative_V = negative_distance(direction)
        positive_V = distance(direction.queries_ND[kept_V], direction.positives_ND[kept_V])
        terms.append((positive_V - negative_V + config.margin).clamp_min(0))
    return mean_term(terms)
