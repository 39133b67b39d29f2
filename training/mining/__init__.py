"""Negatives, found on the fly; one algorithm a file.

All of them share one contract, `Miner`: for each query the cell of the other image, or of other
images, that it is to be pushed away from, never within the exclusion radius of the true position.
"""

from collections.abc import Callable

from ucn.matching.exclusion import Negatives
from ucn.matching.features import Grid
from ucn.training.mining.hard import mine_hard
from ucn.training.mining.random import mine_random

__all__ = ["MINERS", "Grid", "Miner", "Negatives"]

Miner = Callable[..., Negatives]
MINERS: dict[str, Miner] = {"hard": mine_hard, "random": mine_random}
