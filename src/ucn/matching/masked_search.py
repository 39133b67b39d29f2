"""Exact search for the nearest negative and the nearest positive cell, in plain tensor operations.

Similarities are computed in chunks of queries. The few cells of a chunk near the true position are
read and masked by index.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ucn.matching.exclusion import Grid, compact_cells, excluded_cells
from ucn.matching.nearest import nearest_cells


class Found(NamedTuple):
    """Nearest cells of N queries.

    Attributes:
        index_N: int64, the most similar valid cell outside the radius; arbitrary if there is none.
        outside_N: float32, cosine similarity to that cell; -inf if there is none.
        inside_N: float32, cosine similarity to the most similar valid cell within the radius; -inf
            if there is none.
    """

    index_N: Tensor
    outside_N: Tensor
    inside_N: Tensor


Search = Callable[[Tensor, Tensor, Tensor, Grid, float, Tensor | None, int], Found]


@torch.no_grad()
def masked_search(
    queries_ND: Tensor,
    cells_MD: Tensor,
    points_N2: Tensor,
    grid: Grid,
    radius: float,
    valid_M: Tensor | None,
    memory_mib: int,
) -> Found:
    """Searches all cells for each query. Arguments as in `mine_hard`, M > 0. Any cell of a tie."""
    kept_V = position_M = None
    if valid_M is not None and not bool(valid_M.all()):
        kept_V, position_M = compact_cells(valid_M)
        cells_MD = cells_MD[kept_V]
    inside_N = torch.full((len(queries_ND),), -torch.inf, device=queries_ND.device)
    if len(cells_MD) == 0:
        return Found(torch.zeros_like(inside_N, dtype=torch.long), inside_N, inside_N)

    def exclude(rows: slice, similarity: Tensor) -> None:
        index_NK, inside_NK = excluded_cells(points_N2[rows], grid, radius)
        if position_M is not None:
            index_NK = position_M[index_NK]
            inside_NK = inside_NK & (index_NK >= 0)
        row_E, k_E = inside_NK.nonzero(as_tuple=True)
        flat_E = row_E * similarity.shape[1] + index_NK[row_E, k_E]
        flat = similarity.view(-1)
        inside_N[rows].scatter_reduce_(0, row_E, flat[flat_E], "amax")
        flat.index_fill_(0, flat_E, -torch.inf)

    index_N, outside_N = nearest_cells(queries_ND, cells_MD, memory_mib, exclude)
    return Found(index_N if kept_V is None else kept_V[index_N], outside_N, inside_N)
