"""Negatives, found on the fly; one algorithm a file, by name in `ucn.training.registry.MINERS`.

All of them share one contract, `Miner`: for each query the cell of the other image, or of other
images, that it is to be pushed away from, never within the exclusion radius of the true position.
The arguments are those of `ucn.training.mining.hard.mine_hard`.
"""

from collections.abc import Callable

from ucn.matching.exclusion import Negatives
from ucn.matching.features import Grid

__all__ = ["Grid", "Miner", "Negatives"]

Miner = Callable[..., Negatives]
