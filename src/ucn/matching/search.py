"""Exact nearest-neighbour search among descriptors: the one search of mining and matching.

On a CPU the similarities are computed in tiles that stay in its cache. Where a CPU multiplies
bfloat16 in hardware, a coarse pass finds the cells that can be the nearest one, and only these are
compared in float32. On CUDA a fused kernel does the same work
(`ucn.matching.fused_search`). All three give the answers of float32.
"""

import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ucn.matching.exclusion import Exclusion, exclude_, excluded_cells

CPU_TILE, CPU_COLUMNS = 3 << 17, 3 << 10
"""Similarities that fit into a core's cache, where the maximum costs almost nothing; and the cells
of a tile."""
_COARSE_ROWS, _COARSE_COLUMNS, _BLOCK = 1024, 8192, 256
# With more candidates than one cell in so many, float32 alone is faster.
_CELLS_PER_CANDIDATE = 64
_CANDIDATES_AT_ONCE = 1 << 16
# Below, the coarse pass does not pay.
_MIN_COARSE_QUERIES, _MIN_COARSE_CELLS = 64, 8192
# Bound on the error of a bfloat16 similarity of unit vectors: both factors and the result are
# rounded to 8 bits, each by at most 2**-9 of its length.
_COARSE_ERROR = 3.02 * 2**-9


_Candidates = tuple[Tensor, Tensor, Tensor]
"""Queries, cells, and their bfloat16 similarities."""


class Found(NamedTuple):
    """Nearest cells of N queries, or of B sets of N queries.

    Attributes:
        index_N: int64, the most similar valid cell outside the exclusion radius, the lowest of
            equal ones; arbitrary if there is none.
        similarity_N: float32 inner product with that cell; -inf if there is none.
        inside_N: float32 inner product with the most similar valid cell within the radius; -inf if
            there is none.
    """

    index_N: Tensor
    similarity_N: Tensor
    inside_N: Tensor


@torch.no_grad()
def search(
    queries_ND: Tensor,
    cells_MD: Tensor,
    *,
    valid_M: Tensor | None = None,
    exclusion: Exclusion | None = None,
    memory_mib: int = 256,
) -> Found:
    """Finds the most similar cell (least L2 distance, for unit descriptors) for each query.

    Args:
        queries_ND: descriptors [N, D], or [B, N, D] for B sets that are searched separately.
        cells_MD: unit descriptors [M, D], M > 0, or [B, M, D].
        valid_M: bool [M] or [B, M], False for cells to leave out; None for all valid.
        exclusion: cells near each query's true position, which are not candidates. Its points are
            [N, 2] or [B, N, 2].
        memory_mib: bound on the similarities held at once (at least one query's row).

    Raises:
        ValueError: the shapes disagree, or there are no cells.
    """
    if queries_ND.shape[-1:] != cells_MD.shape[-1:] or not cells_MD.shape[-2]:
        raise ValueError(f"cannot search {tuple(queries_ND.shape)} in {tuple(cells_MD.shape)}")
    if queries_ND.dim() == 2:
        sets = (
            None if exclusion is None else exclusion._replace(points_N2=exclusion.points_N2[None])
        )
        valid_BM = None if valid_M is None else valid_M[None]
        found = _search_sets(queries_ND[None], cells_MD[None], valid_BM, sets, memory_mib)
        return Found(*(values_BN[0] for values_BN in found))
    return _search_sets(queries_ND, cells_MD, valid_M, exclusion, memory_mib)


def has_fused_search(device: torch.device) -> bool:
    """Whether the fused kernel runs on a device: CUDA with Triton."""
    return device.type == "cuda" and find_spec("triton") is not None


def _search_sets(
    queries_BND: Tensor,
    cells_BMD: Tensor,
    valid_BM: Tensor | None,
    exclusion: Exclusion | None,
    memory_mib: int,
) -> Found:
    if has_fused_search(queries_BND.device):
        from ucn.matching.fused_search import fused_search

        return Found(*fused_search(queries_BND, cells_BMD, valid_BM, exclusion))
    queries_BND, cells_BMD = queries_BND.float(), cells_BMD.float()
    window = None
    if exclusion is not None:
        window = excluded_cells(exclusion.points_N2.to(queries_BND.device), *exclusion[1:])
    if not _pays_coarse(queries_BND, cells_BMD):
        return _search_exact(queries_BND, cells_BMD, valid_BM, window, memory_mib)
    parts = []
    num_rows = min(_COARSE_ROWS, queries_BND.shape[1])
    num_rows = max(1, min(num_rows, (memory_mib << 19) // _COARSE_COLUMNS))
    # Fresh memory would cost as much as the product.
    buffer = torch.empty(num_rows * _COARSE_COLUMNS, dtype=torch.bfloat16)
    for b, first in product(range(len(queries_BND)), range(0, queries_BND.shape[1], num_rows)):
        sets, rows = slice(b, b + 1), slice(first, first + num_rows)
        near = None if window is None else (window[0][sets, rows], window[1][sets, rows])
        valid_1M = None if valid_BM is None else valid_BM[sets]
        inputs = queries_BND[sets, rows], cells_BMD[sets], valid_1M, near
        parts.append(_search_coarse(*inputs, buffer) or _search_exact(*inputs, memory_mib))
    found = Found(*(torch.cat(values, dim=1) for values in zip(*parts, strict=True)))
    return Found(*(values.view(queries_BND.shape[:2]) for values in found))


def _search_exact(
    queries_BND: Tensor,
    cells_BMD: Tensor,
    valid_BM: Tensor | None,
    window: tuple[Tensor, Tensor] | None,
    memory_mib: int,
) -> Found:
    """Searches in float32, tile by tile of queries and cells.

    Args:
        window: excluded cells of each query, from `excluded_cells`.
    """
    num_cells = cells_BMD.shape[1]
    similarity_BN = torch.full_like(queries_BND[..., 0], -torch.inf)
    found = Found(
        torch.zeros_like(similarity_BN, dtype=torch.long), similarity_BN, similarity_BN.clone()
    )
    columns = num_cells if queries_BND.is_cuda else min(num_cells, CPU_COLUMNS)
    buffer = queries_BND.new_empty(0)
    for sets, rows in chunks(queries_BND, columns, memory_mib, CPU_TILE):
        for start in range(0, num_cells, columns):
            stop = min(start + columns, num_cells)
            left_BRD, right_BDC = queries_BND[sets, rows], cells_BMD[sets, start:stop].mT
            shape = (*left_BRD.shape[:2], stop - start)
            if buffer.numel() < math.prod(shape):
                buffer = queries_BND.new_empty(math.prod(shape))
            tile = torch.bmm(left_BRD, right_BDC, out=buffer[: math.prod(shape)].view(shape))
            if valid_BM is not None:
                tile.masked_fill_(~valid_BM[sets, None, start:stop], -torch.inf)
            if window is not None:
                index_NK, inside_NK = (cells[sets, rows] for cells in window)
                if columns < num_cells:
                    inside_NK = inside_NK & (index_NK >= start) & (index_NK < stop)
                    index_NK = (index_NK - start).clamp_(0, stop - start - 1)
                near_NK = tile.gather(2, index_NK).masked_fill_(~inside_NK, -torch.inf)
                found.inside_N[sets, rows] = found.inside_N[sets, rows].maximum(near_NK.amax(dim=2))
                exclude_(tile, index_NK, inside_NK)
            _keep_best(tile, start, (sets, rows), found.index_N, found.similarity_N)
    return found


def chunks(
    queries_BND: Tensor, num_cells: int, memory_mib: int, cpu_tile: int
) -> Iterator[tuple[slice, slice]]:
    """Yields parts of sets of queries, as slices of B and N, whose similarities fit into memory.

    A part is at least one query, and on a CPU at most ``cpu_tile`` similarities.
    """
    room = memory_mib * 2**18
    if queries_BND.device.type == "cpu":
        room = min(room, cpu_tile)
    num_sets, num_queries = queries_BND.shape[:2]
    rows = min(num_queries, max(1, room // num_cells))
    sets = max(1, room // max(1, rows * num_cells))
    for first_set in range(0, num_sets if rows else 0, sets):
        for first in range(0, num_queries, rows):
            yield slice(first_set, first_set + sets), slice(first, first + rows)


def _pays_coarse(queries_BND: Tensor, cells_BMD: Tensor) -> bool:
    return (
        not queries_BND.is_cuda
        and queries_BND.shape[1] >= _MIN_COARSE_QUERIES
        and cells_BMD.shape[1] >= _MIN_COARSE_CELLS
        and has_fast_bfloat16(queries_BND.device)
    )


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32: a GPU, or a CPU with AMX."""
    # No public function tells it of a CPU.
    is_supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return device.type != "cpu" or bool(is_supported and is_supported())


def _search_coarse(
    queries_1ND: Tensor,
    cells_1MD: Tensor,
    valid_1M: Tensor | None,
    window: tuple[Tensor, Tensor] | None,
    buffer: Tensor,
) -> Found | None:
    """Searches in bfloat16, then in float32 among the cells that can be the nearest.

    Args:
        window: excluded cells of each query, from `excluded_cells`.
        buffer: bfloat16, room for the similarities of all queries to `_COARSE_COLUMNS` cells.

    Returns:
        None if that would be too many cells.
    """
    (queries_ND,), (cells_MD,) = queries_1ND, cells_1MD
    num_queries, num_cells = len(queries_ND), len(cells_MD)
    rounded_ND = queries_ND.bfloat16()
    margin_N = 2 * _COARSE_ERROR * queries_ND.norm(dim=1)
    best_N = torch.full_like(margin_N, -torch.inf)
    outside: list[_Candidates] = []
    inside: list[_Candidates] = []
    num_candidates = 0
    if window is not None:
        index_NK, inside_NK = window[0][0], window[1][0]
        row_L, place_L = inside_NK.nonzero().T
        cell_L, order_L = index_NK[row_L, place_L].sort()
        row_L = row_L[order_L]
    for start in range(0, num_cells, _COARSE_COLUMNS):
        cells_CD = cells_MD[start : start + _COARSE_COLUMNS].bfloat16()
        present = len(cells_CD)
        cells_CD = F.pad(cells_CD, (0, 0, 0, -present % _BLOCK))
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
    return Found(index_N[None], similarity_N[None], inside_N[None])


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


def _keep_best(tile: Tensor, start: int, rows: Any, index_N: Tensor, similarity_N: Tensor) -> None:
    """Updates the best cells of some rows by a tile of cells from ``start`` on."""
    best_R = _argmax(tile)
    value_R = tile.gather(-1, best_R[..., None])[..., 0]
    # Strictly better, so that the lowest of equal cells stays.
    better_R = value_R > similarity_N[rows]
    index_N[rows] = torch.where(better_R, best_R + start, index_N[rows])
    similarity_N[rows] = torch.where(better_R, value_R, similarity_N[rows])


def _argmax(tile: Tensor) -> Tensor:
    """Lowest of the largest entries along the last axis."""
    if tile.is_cuda:
        return tile.argmax(dim=-1)
    # NumPy's argmax is several times faster than torch's.
    return torch.from_numpy(np.asarray(tile.numpy().argmax(axis=-1)))
