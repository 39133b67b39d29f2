"""Random negatives (RN): any wrong position of the cells searched, all equally likely."""

import torch
from torch import Tensor

from ucn.matching.exclusion import Negatives, excluded_cells
from ucn.matching.features import Grid
from ucn.training.mining.hard import mine_hard


@torch.no_grad()
def mine_random(
    queries_ND: Tensor,
    cells_MD: Tensor,
    points_N2: Tensor,
    grid: Grid,
    radius: float,
    *,
    uniform_N: Tensor,
    valid_M: Tensor | None = None,
    memory_mib: int = 64,
) -> Negatives:
    """Draw for each query one valid cell beyond the radius; arguments as in `mine_hard`.

    The hits are those of the exact search.

    Args:
        uniform_N: float64, the draws, from 0 to 1 (exclusive).
    """
    hits = mine_hard(
        queries_ND, cells_MD, points_N2, grid, radius, valid_M=valid_M, memory_mib=memory_mib
    )
    # Number of valid cells up to each cell: a valid cell's rank among them, from 1.
    rank_M = torch.ones_like(cells_MD[..., 0], dtype=torch.long) if valid_M is None else valid_M
    rank_M = rank_M.long().cumsum(dim=-1)
    index_NK, inside_NK = excluded_cells(points_N2, grid, radius)
    flat_K = index_NK.flatten(-2)
    if valid_M is not None:
        inside_NK = inside_NK & valid_M.gather(-1, flat_K).view_as(inside_NK)
    num_valid = rank_M[..., -1:]
    free_N = num_valid - inside_NK.sum(dim=-1)
    draw_N = (uniform_N * free_N).long()
    # The u-th free cell is valid cell u plus the number of excluded cells that come before it.
    num_window = index_NK.shape[-1]
    never = cells_MD.shape[-2] + num_window
    excluded_NK = torch.where(inside_NK, rank_M.gather(-1, flat_K).view_as(index_NK) - 1, never)
    before_NK = excluded_NK.sort(dim=-1).values - torch.arange(num_window, device=draw_N.device)
    draw_N = draw_N + (before_NK <= draw_N[..., None]).sum(dim=-1)
    index_N = torch.searchsorted(rank_M, draw_N + 1)
    valid_N = free_N > 0
    return Negatives(torch.where(valid_N, index_N, 0), valid_N, hits.hit_N)
