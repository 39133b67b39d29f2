"""Cross entropy both ways over the correspondences of a pair.

The negative log of the dual softmax of Sun et al., "LoFTR", CVPR 2021, section 3.3
(``P_ii = softmax(S_i.)_i * softmax(S_.i)_i``), with S the cosine similarities of the N
correspondences' features over a temperature; halved, it is the symmetric InfoNCE of Radford et al.
("CLIP", 2021, Fig. 3), as here:
``L = -1 / (2 N) sum_i [ log softmax_j(S_ij)_i + log softmax_j(S_ji)_i ]``.
A correspondence j that lies within the exclusion radius of i, in the image that is searched, is
neither right nor wrong, and is left out of i's sum.
"""

import torch
from torch import Tensor

from ucn.training.config import LossConfig
from ucn.training.losses.terms import Directions, mean_term


def dual_softmax_loss(directions: Directions, config: LossConfig) -> Tensor:
    """Mean over directions and correspondences, [pairs]; cells and mined negatives are not read.

    Holds [B, N, N] matrices for the gradient. Zero, with a gradient of zero, without
    correspondences.

    Args:
        directions: the two directions of each pair.
        config: ``temperature`` is read.
    """
    present_BN = directions.present_BN
    logits_BNN = (directions.queries_BND / config.temperature) @ directions.positives_BND.mT
    right_BN = logits_BNN.diagonal(dim1=1, dim2=2)
    neutral_BNN = _near(directions.points_BN2, directions.radius) | ~present_BN[:, None]
    neutral_BNN.diagonal(dim1=1, dim2=2).zero_()
    logits_BNN = logits_BNN.masked_fill(neutral_BNN, -torch.inf)
    return mean_term(logits_BNN.logsumexp(dim=2) - right_BN, present_BN)


def _near(points_BN2: Tensor, radius: float) -> Tensor:
    """Which points lie within ``radius`` pixels (inclusive) of each point, bool [B, N, N].

    Distances are taken in float64, as for cells.
    """
    x_BN, y_BN = points_BN2.double().unbind(dim=2)
    squared_BNN = (y_BN[..., None] - y_BN[:, None]) ** 2 + (x_BN[..., None] - x_BN[:, None]) ** 2
    return squared_BNN <= radius**2
