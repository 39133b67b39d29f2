"""Losses over correspondences, one a file, in the registry `ucn.training.registry.LOSSES`.

Each takes the directions of all pairs and gives a loss for each pair; a batch's loss is their mean,
so that it does not depend on how the pairs are shared out among workers.
"""

from collections.abc import Callable

from torch import Tensor

from ucn.training.config import LossConfig
from ucn.training.losses.terms import Directions

__all__ = ["Directions", "Loss"]

Loss = Callable[[Directions, LossConfig], Tensor]
