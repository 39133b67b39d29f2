"""Exact nearest-neighbour search among descriptors: the one search of mining and matching.

On a CPU the similarities are computed in tiles that stay in its cache. Where it multiplies bfloat16
in hardware, a coarse pass finds the blocks of cells that can hold the nearest one, and only these
are compared in float32. On CUDA a fused kernel does the same work (`ucn.matching.fused_search`).
All three give the answers of float32.
"""

from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ucn.matching.exclusion import Exclusion, compact_cells, excluded_cells

# A tile of similarities that fits into a core's cache, where the maximum costs almost nothing.
_TILE_ROWS, _TILE_COLUMNS = 128, 3072
_COARSE_ROWS, _COARSE_COLUMNS, _BLOCK = 1024, 4096, 256
# Below, the coarse pass does not pay.
_MIN_COARSE_QUERIES, _MIN_COARSE_CELLS = 64, 8192
# Bound on the error of a bfloat16 similarity of unit vectors: both factors and the result are
# rounded to 8 bits, each by at most 2**-9 of its length.
_COARSE_ERROR = 3.02 * 2**-9


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
        return _search_one(queries_ND, cells_MD, valid_M, exclusion, memory_mib)
    parts = [
        _search_one(
            queries_ND[b],
            cells_MD[b],
            None if valid_M is None else valid_M[b],
            None if exclusion is None else exclusion._replace(points_N2=exclusion.points_N2[b]),
            memory_mib,
        )
        for b in range(len(queries_ND))
    ]
    return Found(*(torch.stack(values) for values in zip(*parts, strict=True)))


def has_fused_search(device: torch.device) -> bool:
    """Whether the fused kernel runs on a device: CUDA with Triton."""
    return device.type == "cuda" and find_spec("triton") is not None


def _search_one(
    queries_ND: Tensor,
    cells_MD: Tensor,
    valid_M: Tensor | None,
    exclusion: Exclusion | None,
    memory_mib: int,
) -> Found:
    if has_fused_search(queries_ND.device):
        from ucn.matching.fused_search import fused_search

        return Found(*fused_search(queries_ND, cells_MD, valid_M, exclusion))
    queries_ND, cells_MD = queries_ND.float(), cells_MD.float()
    kept_V = position_M = None
    if valid_M is not None and not bool(valid_M.all()):
        kept_V, position_M = compact_cells(valid_M)
        cells_MD = cells_MD[kept_V]
    inside_N = queries_ND.new_full((len(queries_ND),), -torch.inf)
    if not len(cells_MD) or not len(queries_ND):
        return Found(torch.zeros_like(inside_N, dtype=torch.long), inside_N.clone(), inside_N)
    if exclusion is None and _pays_coarse(queries_ND, cells_MD):
        parts = [
            _search_coarse(rows_RD, cells_MD) for rows_RD in torch.split(queries_ND, _COARSE_ROWS)
        ]
        index_N, similarity_N = (torch.cat(values) for values in zip(*parts, strict=True))
    else:
        index_N, similarity_N = _search_tiles(
            queries_ND, cells_MD, exclusion, position_M, inside_N, memory_mib
        )
    return Found(index_N if kept_V is None else kept_V[index_N], similarity_N, inside_N)


def _search_tiles(
    queries_ND: Tensor,
    cells_MD: Tensor,
    exclusion: Exclusion | None,
    position_M: Tensor | None,
    inside_N: Tensor,
    memory_mib: int,
) -> tuple[Tensor, Tensor]:
    """Searches tile by tile, in float32. Fills ``inside_N``."""
    room = max(1, memory_mib * 2**18)
    rows, columns = min(_TILE_ROWS, room), _TILE_COLUMNS
    if queries_ND.is_cuda:  # large products keep a GPU busy
        columns = min(len(cells_MD), room)
        rows = max(1, min(len(queries_ND), room // columns))
    columns = max(1, min(columns, room // rows))
    buffer = queries_ND.new_empty(rows * columns)
    index_N = torch.zeros(len(queries_ND), dtype=torch.long, device=queries_ND.device)
    similarity_N = torch.full_like(inside_N, -torch.inf)
    for first in range(0, len(queries_ND), rows):
        taken = slice(first, first + rows)
        queries_RD = queries_ND[taken]
        excluded = None
        if exclusion is not None:
            excluded = _excluded_entries(exclusion, taken, position_M)
        for start in range(0, len(cells_MD), columns):
            block_CD = cells_MD[start : start + columns]
            tile = buffer[: len(queries_RD) * len(block_CD)].view(len(queries_RD), -1)
            torch.mm(queries_RD, block_CD.T, out=tile)
            if excluded is not None:
                _exclude(tile, start, *excluded, inside_N[taken])
            _keep_best(tile, start, taken, index_N, similarity_N)
    return index_N, similarity_N


def _excluded_entries(
    exclusion: Exclusion, taken: slice, position_M: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Excluded pairs of rows and cells, as int64 [E] each, sorted by cell."""
    points_N2, grid, radius = exclusion
    index_NK, inside_NK = excluded_cells(points_N2[taken], grid, radius)
    if position_M is not None:
        index_NK = position_M[index_NK]
        inside_NK = inside_NK & (index_NK >= 0)
    row_E, k_E = inside_NK.nonzero(as_tuple=True)
    cell_E, order_E = index_NK[row_E, k_E].sort()
    return row_E[order_E], cell_E


def _exclude(tile: Tensor, start: int, row_E: Tensor, cell_E: Tensor, inside_R: Tensor) -> None:
    """Moves the excluded similarities of a tile to ``inside_R``, as maxima."""
    bounds = torch.tensor([start, start + tile.shape[1]], device=cell_E.device)
    first, last = torch.searchsorted(cell_E, bounds).tolist()
    row_E, column_E = row_E[first:last], cell_E[first:last] - start
    flat_E = row_E * tile.shape[1] + column_E
    flat = tile.view(-1)
    inside_R.scatter_reduce_(0, row_E, flat[flat_E], "amax")
    flat.index_fill_(0, flat_E, -torch.inf)


def _pays_coarse(queries_ND: Tensor, cells_MD: Tensor) -> bool:
    return (
        not queries_ND.is_cuda
        and len(queries_ND) >= _MIN_COARSE_QUERIES
        and len(cells_MD) >= _MIN_COARSE_CELLS
        and _has_bfloat16_tiles()
    )


def _has_bfloat16_tiles() -> bool:
    """Whether the CPU multiplies bfloat16 in tiles (AMX). No public function tells it."""
    is_supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(is_supported and is_supported())


def _search_coarse(queries_RD: Tensor, cells_MD: Tensor) -> tuple[Tensor, Tensor]:
    """Searches in bfloat16, then in float32 among the blocks that can hold the nearest cell."""
    best_KR = _coarse_maxima(queries_RD, cells_MD)
    margin_R = 2 * _COARSE_ERROR * queries_RD.norm(dim=1)
    bound_R = best_KR.amax(dim=0) - margin_R
    # Maxima of blocks without a positive similarity are wrong; they matter below zero only.
    block_E, row_E = ((best_KR >= bound_R) | (bound_R <= 0)).nonzero(as_tuple=True)
    similarity_R = queries_RD.new_full((len(queries_RD),), -torch.inf)
    index_R = torch.zeros(len(queries_RD), dtype=torch.long)
    counts = torch.bincount(block_E, minlength=len(best_KR)).tolist()
    for block, rows in enumerate(torch.split(row_E, counts)):
        if not len(rows):
            continue
        start = block * _BLOCK
        tile = queries_RD[rows] @ cells_MD[start : start + _BLOCK].T
        _keep_best(tile, start, rows, index_R, similarity_R)
    return index_R, similarity_R


def _coarse_maxima(queries_RD: Tensor, cells_MD: Tensor) -> Tensor:
    """Largest bfloat16 similarity of each block of cells: float32 [blocks, R]."""
    queries_DR = queries_RD.bfloat16().T
    maxima = []
    for cells_CD in torch.split(cells_MD, _COARSE_COLUMNS):
        similarity_CR = cells_CD.bfloat16() @ queries_DR
        # The bits of non-negative bfloat16 numbers are ordered like integers, whose maximum is
        # several times faster.
        bits_CR = similarity_CR.view(torch.int16)
        whole = len(bits_CR) // _BLOCK * _BLOCK
        maxima.append(bits_CR[:whole].view(-1, _BLOCK, bits_CR.shape[1]).amax(dim=1))
        if whole < len(bits_CR):
            maxima.append(bits_CR[whole:].amax(dim=0, keepdim=True))
    return torch.cat(maxima).view(torch.bfloat16).float()


def _keep_best(
    tile: Tensor, start: int, rows: slice | Tensor, index_N: Tensor, similarity_N: Tensor
) -> None:
    """Updates the best cells of some rows by a tile of cells from ``start`` on."""
    if tile.is_cuda:
        best_R = tile.argmax(dim=1)
    else:  # NumPy's argmax is several times faster than torch's
        best_R = torch.from_numpy(np.asarray(tile.numpy().argmax(axis=1)))
    value_R = tile.gather(1, best_R[:, None])[:, 0]
    # Strictly better, so that the lowest of equal cells stays.
    better_R = value_R > similarity_N[rows]
    index_N[rows] = torch.where(better_R, best_R + start, index_N[rows])
    similarity_N[rows] = torch.where(better_R, value_R, similarity_N[rows])
