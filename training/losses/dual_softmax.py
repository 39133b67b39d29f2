"""Cross entropy both ways over the correspondences of a pair.

The negative log of the dual softmax of Sun et al., "LoFTR", CVPR 2021, section 3.3
(``P_ii = softmax(S_i.)_i * softmax(S_.i)_i``), with S the cosine similarities of the N
correspondences' features over a temperature; halved, it is the symmetric InfoNCE of Radford et al.
("CLIP", 2021, Fig. 3), as here:
``L = -1 / (2 N) sum_i [ log softmax_j(S_ij)_i + log softmax_j(S_ji)_i ]``.
A correspondence j that lies within the exclusion radius of i, in the image that is searched, is
neither right nor wrong, and is left out of i's sum.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ucn.training.config import LossConfig
from ucn.training.losses.terms import Direction, mean_term


def dual_softmax_loss(directions: Sequence[Direction], config: LossConfig) -> Tensor:
    """Mean over directions and correspondences; cells and mined negatives are not read.

    Holds [N, N] matrices for the gradient. Zero, with a gradient of zero, without
    correspondences.

    Args:
        directions: the two directions of a pair; one direction sums along the rows of S alone.
        config: ``temperature`` is read.
    """
    return mean_term([_cross_entropy(direction, config.temperature) for direction in directions])


def _cross_entropy(direction: Direction, temperature: float) -> Tensor:
    logits_NN = (direction.queries_ND / temperature) @ direction.positives_ND.T
    right_N = logits_NN.diagonal()
    logits_NN = logits_NN.masked_fill(_near(direction.points_N2, direction.radius), -torch.inf)
    return logits_NN.logsumexp(dim=1) - right_N


def _near(points_N2: Tensor, radius: float) -> Tensor:
    """Which *other* points lie within ``radius`` pixels (inclusive), bool [N, N].

    Distances are taken in float64, as for cells.
    """
    x_N, y_N = points_N2.double().unbind(dim=1)
    squared_NN = (y_N[:, None] - y_N) ** 2 + (x_N[:, None] - x_N) ** 2
    return (squared_NN <= radius**2).fill_diagonal_(False)
