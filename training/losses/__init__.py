"""Losses over correspondences, one a file, chosen by name.

Each takes the directions of one image pair; a batch's loss is the mean over its pairs, so that it
does not depend on how the pairs are shared out among workers.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from training.config import LossConfig
from training.losses.contrastive import contrastive_loss
from training.losses.infonce import infonce_loss
from training.losses.terms import Direction

__all__ = ["LOSSES", "Direction", "Loss"]

Loss = Callable[[Sequence[Direction], LossConfig], Tensor]
LOSSES: dict[str, Loss] = {"contrastive": contrastive_loss, "infonce": infonce_loss}
