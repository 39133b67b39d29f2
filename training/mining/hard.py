"""Hard negatives (HN): the nearest wrong position of the whole other image, or of the batch.

Choy et al., "Universal Correspondence Network", NIPS 2016, section 3.1; the exclusion radius is
applied before the argmin, so that a query whose nearest feature is right still has a negative.
"""

import torch
from torch import Tensor

from ucn.matching.exclusion import Exclusion, Negatives
from ucn.matching.features import Grid
from ucn.matching.search import search


@torch.no_grad()
def mine_hard(
    queries_ND: Tensor,
    cells_MD: Tensor,
    points_N2: Tensor,
    grid: Grid,
    radius: float,
    *,
    valid_M: Tensor | None = None,
    memory_mib: int = 64,
    uniform_N: Tensor | None = None,
) -> Negatives:
    """Find each query's nearest feature among all valid cells beyond the radius, exactly.

    A query's hit is that its nearest of all valid cells, those of other images among them, lies
    within the radius.

    Args:
        queries_ND: unit features of one image's points; [B, N, D] for B sets that are searched
            separately. All other tensors then have this axis, too.
        cells_MD: unit features of all cells of the other image, row by row; any rows beyond
            ``grid.height * grid.width`` are of other images, wrong wherever they are.
        points_N2: where the queries truly are in the other image, pixels.
        grid: the cells' places.
        radius: cells within this distance of the truth (inclusive) are excluded, pixels.
        valid_M: bool, False for padding; None for all valid.
        memory_mib: bound on the similarities held at once.
        uniform_N: unused; nothing is drawn.
    """
    exclusion = Exclusion(points_N2, grid, radius)
    found = search(
        queries_ND, cells_MD, valid_M=valid_M, exclusion=exclusion, memory_mib=memory_mib
    )
    valid_N = found.similarity_N > -torch.inf
    return Negatives(
        index_N=torch.where(valid_N, found.index_N, 0),
        valid_N=valid_N,
        hit_N=(found.inside_N >= found.similarity_N) & (found.inside_N > -torch.inf),
    )
