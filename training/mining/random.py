"""Random negatives (RN): any wrong position of the cells searched, all equally likely."""

import torch
from torch import Tensor

from ucn.matching.exclusion import Negatives, compact_cells, excluded_cells
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
    valid_M: Tensor | None = None,
    memory_mib: int = 64,
    generator: torch.Generator | None = None,
) -> Negatives:
    """Draw for each query one valid cell beyond the radius; arguments as in `mine_hard`.

    The hits are those of the exact search.

    Args:
        generator: where the draws come from (on the CPU); None for torch's own.
    """
    valid = torch.ones(len(cells_MD), dtype=torch.bool, device=cells_MD.device)
    kept_V, position_M = compact_cells(valid if valid_M is None else valid_M)
    hits = mine_hard(
        queries_ND, cells_MD, points_N2, grid, radius, valid_M=valid_M, memory_mib=memory_mib
    )
    if len(queries_ND) == 0 or len(kept_V) == 0:
        return hits
    index_NK, inside_NK = excluded_cells(points_N2, grid, radius)
    index_NK = position_M[index_NK]
    inside_NK = inside_NK & (index_NK >= 0)
    free_N = len(kept_V) - inside_NK.sum(dim=1)
    uniform_N = torch.rand(len(points_N2), generator=generator, dtype=torch.float64)
    draw_N = (uniform_N.to(free_N.device) * free_N).long()
    # The u-th free cell is cell u plus the number of excluded cells that come before it.
    num_window = index_NK.shape[1]
    never = len(kept_V) + num_window
    excluded_NK = torch.where(inside_NK, index_NK, never).sort(dim=1).values
    before_NK = excluded_NK - torch.arange(num_window, device=index_NK.device)
    draw_N = draw_N + (before_NK <= draw_N[:, None]).sum(dim=1)
    valid_N = free_N > 0
    index_N = kept_V[draw_N.clamp(max=len(kept_V) - 1)]
    return Negatives(torch.where(valid_N, index_N, 0), valid_N, hits.hit_N)
