"""Losses over correspondences, one a file, chosen by name.

Each takes the directions of all pairs and gives a loss for each pair; a batch's loss is their mean,
so that it does not depend on how the pairs are shared out among workers.
"""

from collections.abc import Callable

from torch import Tensor

from ucn.training.config import LossConfig
from ucn.training.losses.contrastive import contrastive_loss
from ucn.training.losses.dual_softmax import dual_softmax_loss
from ucn.training.losses.hardest_contrastive import hardest_contrastive_loss
from ucn.training.losses.infonce import infonce_loss
from ucn.training.losses.terms import Directions
from ucn.training.losses.triplet import triplet_loss

__all__ = ["LOSSES", "OVER_ALL", "Directions", "Loss"]

Loss = Callable[[Directions, LossConfig], Tensor]
LOSSES: dict[str, Loss] = {
    "contrastive": contrastive_loss,
    "hardest_contrastive": hardest_contrastive_loss,
    "triplet": triplet_loss,
    "infonce": infonce_loss,
    "dual_softmax": dual_softmax_loss,
}
OVER_ALL = frozenset({"infonce", "dual_softmax"})
"""Losses that weigh all wrong positions, and read no mined negative."""
