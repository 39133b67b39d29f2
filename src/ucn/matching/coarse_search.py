"""Exact nearest-neighbour search by a coarse pass, for CPUs that multiply bfloat16 in hardware.

The coarse similarities, in bfloat16, tell which cells can be the nearest one: those within the
error of bfloat16 of the best. Only these are compared in float32.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS, COLUMNS = 1024, 8192
"""Most queries, and cells, of a tile of similarities."""
_BLOCK = 128
# With more candidates than one cell in so many, float32 alone is faster.
_CELLS_PER_CANDIDATE = 64
_CANDIDATES_AT_ONCE = 1 << 16
# Below, the coarse pass does not pay.
_MIN_QUERIES, _MIN_CELLS = 64, 8192
# Bound on the error of a bfloat16 similarity of unit vectors: both factors and the result are
# rounded to 8 bits, each by at most 2**-9 of its length.
_ERROR = 3.02 * 2**-9

_Candidates = tuple[Tensor, Tensor, Tensor]
"""Queries, cells, and their bfloat16 similarities."""


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32.

    These are GPUs since Ampere, and CPUs with AMX or AVX512-BF16. Others convert each value, which
    takes up to ten times as long.
    """
    if device.type != "cpu":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # No public function tells it of a CPU.
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def pays_coarse_search(queries_BND: Tensor, cells_BMD: Tensor) -> bool:
    """Whether `coarse_search` is faster than float32 alone."""
    return (
        not queries_BND.is_cuda
        and queries_BND.shape[1] >= _MIN_QUERIES
        and cells_BMD.shape[1] >= _MIN_CELLS
        and has_fast_bfloat16(queries_BND.device)
    )


def round_cells(cells_MD: Tensor) -> Tensor:
    """The cells in bfloat16, filled up to whole blocks."""
    return F.pad(cells_MD.bfloat16(), (0, 0, 0, -len(cells_MD) % _BLOCK))


def coarse_search(
    queries_1ND: Tensor,
    cells_1MD: Tensor,
    rounded_CD: Tensor,
    valid_1M: Tensor | None,
    window: tuple[Tensor, Tensor] | None,
    buffer: Tensor,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Searches one set of float32 queries, [1, N, D].

    Args:
        rounded_CD: the cells in bfloat16, from `round_cells`.
        valid_1M: as in `ucn.matching.search.search`.
        window: excluded cells of each query, from `excluded_cells`.
        buffer: bfloat16, room for the similarities of all queries to `COLUMNS` cells.

    Returns:
        the values of `ucn.matching.search.Found`; None if too many cells are candidates.
    """
    (queries_ND,), (cells_MD,) = queries_1ND, cells_1MD
    num_queries, num_cells = len(queries_ND), len(cells_MD)
    rounded_ND = queries_ND.bfloat16()
    margin_N = 2 * _ERROR * queries_ND.norm(dim=1)
    best_N = torch.full_like(margin_N, -torch.inf)
    outside: list[_Candidates] = []
    inside: list[_Candidates] = []
    num_candidates = 0
    if window is not None:
        index_NK, inside_NK = window[0][0], window[1][0]
        row_L, place_L = inside_NK.nonzero().T
        cell_L, order_L = index_NK[row_L, place_L].sort()
        row_L = row_L[order_L]
    for start in range(0, num_cells, COLUMNS):
        cells_CD, present = rounded_CD[start : start + COLUMNS], min(COLUMNS, num_cells - start)
        shape = num_queries, len(cells_CD)
        tile_NC = torch.mm(rounded_ND, cells_CD.T, out=buffer[: math.prod(shape)].view(shape))
        tile_NC[:, present:] = -torch.inf
        if valid_1M is not None:
            tile_NC[:, :present].masked_fill_(~valid_1M[:, start : start + present], -torch.inf)
        if window is not None:
            ends = torch.searchsorted(cell_L, torch.tensor([start, start + present])).tolist()
            row_l, cell_l = row_L[slice(*ends)], cell_L[slice(*ends)]
            at_l = row_l * shape[1] + cell_l - start
            inside.append((row_l, cell_l, tile_NC.view(-1)[at_l]))
            tile_NC.view(-1).index_fill_(0, at_l, -torch.inf)
        blocks_LC = tile_NC.view(-1, _BLOCK)
        # The bits of non-negative bfloat16 numbers are ordered like integers, whose maximum is
        # several times faster. Maxima of blocks without a positive similarity are wrong; they
        # matter below zero only.
        best_L = blocks_LC.view(torch.int16).amax(dim=1).view(torch.bfloat16)
        best_NB = best_L.float().view(num_queries, -1)
        best_N = torch.maximum(best_N, best_NB.amax(dim=1))
        bound_N = _bound(best_N, margin_N)
        row_E, block_E = ((best_NB >= bound_N[:, None]) | (bound_N <= 0)[:, None]).nonzero().T
        coarse_EC = blocks_LC.index_select(0, row_E * best_NB.shape[1] + block_E)
        place_F, column_F = (coarse_EC >= bound_N[row_E, None]).nonzero().T
        cell_F = start + block_E[place_F] * _BLOCK + column_F
        outside.append((row_E[place_F], cell_F, coarse_EC[place_F, column_F]))
        num_candidates += len(place_F)
        if num_candidates * _CELLS_PER_CANDIDATE > num_queries * num_cells:
            return None
    index_N, similarity_N = _nearest_candidates(queries_ND, cells_MD, outside, margin_N)
    inside_N = torch.full_like(similarity_N, -torch.inf)
    if inside:
        _, inside_N = _nearest_candidates(queries_ND, cells_MD, inside, margin_N)
    return index_N[None], similarity_N[None], inside_N[None]


def _bound(best_N: Tensor, margin_N: Tensor) -> Tensor:
    """Least coarse similarity of the nearest cell; never -inf."""
    return (best_N - margin_N).clamp_(min=torch.finfo(torch.float32).min)


def _nearest_candidates(
    queries_ND: Tensor, cells_MD: Tensor, candidates: Sequence[_Candidates], margin_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Finds the most similar candidate of each query in float32, the lowest of equal ones.

    Returns:
        index_N: the cell; arbitrary for queries without candidates.
        similarity_N: -inf for queries without candidates.
    """
    row_F, cell_F, coarse_F = (torch.cat(values) for values in zip(*candidates, strict=True))
    nothing_N = torch.full_like(margin_N, -torch.inf)
    best_N = nothing_N.scatter_reduce(0, row_F, coarse_F.float(), "amax")
    kept_F = coarse_F >= _bound(best_N, margin_N)[row_F]
    row_F, cell_F = row_F[kept_F], cell_F[kept_F]
    products = [
        (queries_ND.index_select(0, row_f) * cells_MD.index_select(0, cell_f)).sum(dim=1)
        for row_f, cell_f in torch.split(torch.stack([row_F, cell_F]), _CANDIDATES_AT_ONCE, dim=1)
    ]
    similarity_F = torch.cat(products)
    similarity_N = nothing_N.scatter_reduce(0, row_F, similarity_F, "amax")
    last = len(cells_MD) - 1
    nearest_F = cell_F.where(similarity_F == similarity_N[row_F], last)
    index_N = torch.full_like(margin_N, last, dtype=torch.long)
    return index_N.scatter_reduce_(0, row_F, nearest_F, "amin"), similarity_N
