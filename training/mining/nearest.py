"""The UCN paper's negatives: the nearest of all positions, unless it is a right one.

Choy et al., "Universal Correspondence Network", NIPS 2016, section 3.1. A query whose nearest
feature lies within the radius of the truth has no negative. `mine_hard` gives it the nearest one
beyond the radius.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ucn.matching.exclusion import Negatives
from ucn.training.mining.hard import mine_hard


@torch.no_grad()
def mine_nearest(*arguments: Any, **options: Any) -> Negatives:
    """Finds each query's nearest of all valid cells; arguments as in `mine_hard`.

    It is a negative if it lies beyond the radius. It is a hit, and no negative, if a cell within
    the radius is as near.
    """
    found = mine_hard(*arguments, **options)
    valid_N: Tensor = found.valid_N & ~found.hit_N
    return replace(found, index_N=torch.where(valid_N, found.index_N, 0), valid_N=valid_N)
