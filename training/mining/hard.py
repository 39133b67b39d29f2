"""Hard negatives (HN): the nearest wrong position of the whole other image.

Choy et al., "Universal Correspondence Network", NIPS 2016, section 3.1; the exclusion radius is
applied before the argmin, so that a query whose nearest feature is right still has a negative.
"""

import torch
from torch import Tensor

from training.mining.exclusion import Grid, Negatives, compact_cells, excluded_cells
from training.mining.nearest import nearest_cells


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
    generator: torch.Generator | None = None,
) -> Negatives:
    """Find each query's nearest feature among all valid cells beyond the radius, exactly.

    Args:
        queries_ND: unit features of one image's points.
        cells_MD: unit features of all cells of the other image, row by row.
        points_N2: where the queries truly are in the other image, pixels.
        grid: the cells' places; ``grid.height * grid.width == M``.
        radius: cells within this distance of the truth (inclusive) are excluded, pixels.
        valid_M: bool, False for padding; None for all valid.
        memory_mib: bound on the similarities held at once.
        generator: unused; nothing is drawn.
    """
    kept_V = position_M = None
    if valid_M is not None and not bool(valid_M.all()):
        kept_V, position_M = compact_cells(valid_M)
        cells_MD = cells_MD[kept_V]
    if len(queries_ND) == 0 or len(cells_MD) == 0:
        nothing = torch.zeros(len(queries_ND), dtype=torch.bool, device=queries_ND.device)
        return Negatives(nothing.long(), nothing, nothing)
    best_inside_N = torch.full((len(queries_ND),), -torch.inf, device=queries_ND.device)

    def exclude(rows: slice, similarity: Tensor) -> None:
        index_NK, inside_NK = excluded_cells(points_N2[rows], grid, radius)
        if position_M is not None:
            index_NK = position_M[index_NK]
            inside_NK = inside_NK & (index_NK >= 0)
        row_E, k_E = inside_NK.nonzero(as_tuple=True)
        flat_E = row_E * similarity.shape[1] + index_NK[row_E, k_E]
        flat = similarity.view(-1)
        best_inside_N[rows].scatter_reduce_(0, row_E, flat[flat_E], "amax")
        flat.index_fill_(0, flat_E, -torch.inf)

    index_N, similarity_N = nearest_cells(queries_ND, cells_MD, memory_mib, exclude)
    valid_N = similarity_N > -torch.inf
    if kept_V is not None:
        index_N = kept_V[index_N]
    return Negatives(
        index_N=torch.where(valid_N, index_N, 0),
        valid_N=valid_N,
        hit_N=(best_inside_N >= similarity_N) & (best_inside_N > -torch.inf),
    )
