"""Exact nearest-neighbour search among descriptors: the one search of mining and matching.

On a CPU the similarities are computed in tiles that stay in its cache. Where a CPU multiplies
bfloat16 in hardware, a coarse pass finds the blocks of cells that can hold the nearest one, and
only these are compared in float32. On CUDA a fused kernel does the same work
(`ucn.matching.fused_search`). All three give the answers of float32.
"""

import math
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ucn.matching.exclusion import Exclusion, exclude_, excluded_cells

CPU_TILE, CPU_COLUMNS = 3 << 17, 3 << 10
"""Similarities that fit into a core's cache, where the maximum costs almost nothing; and the cells
of a tile."""
_COARSE_ROWS, _COARSE_COLUMNS, _BLOCK = 1024, 1024, 256
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
    if valid_BM is None and exclusion is None and _pays_coarse(queries_BND, cells_BMD):
        parts = [
            _search_coarse(rows_RD, cells_MD)
            for queries_ND, cells_MD in zip(queries_BND, cells_BMD, strict=True)
            for rows_RD in torch.split(queries_ND, _COARSE_ROWS)
        ]
        index_N, similarity_N = (torch.cat(values) for values in zip(*parts, strict=True))
        found = index_N.view(queries_BND.shape[:2]), similarity_N.view(queries_BND.shape[:2])
        return Found(*found, torch.full_like(found[1], -torch.inf))
    return _search_exact(queries_BND, cells_BMD, valid_BM, exclusion, memory_mib)


def _search_exact(
    queries_BND: Tensor,
    cells_BMD: Tensor,
    valid_BM: Tensor | None,
    exclusion: Exclusion | None,
    memory_mib: int,
) -> Found:
    """Searches in float32, tile by tile of queries and cells."""
    num_cells = cells_BMD.shape[1]
    similarity_BN = torch.full_like(queries_BND[..., 0], -torch.inf)
    found = Found(
        torch.zeros_like(similarity_BN, dtype=torch.long), similarity_BN, similarity_BN.clone()
    )
    windows = None
    if exclusion is not None:
        windows = excluded_cells(exclusion.points_N2.to(queries_BND.device), *exclusion[1:])
    columns = num_cells if queries_BND.is_cuda else min(num_cells, CPU_COLUMNS)
    buffer = queries_BND.new_empty(0)
    for sets, rows in chunks(queries_BND, columns, memory_mib):
        for start in range(0, num_cells, columns):
            stop = min(start + columns, num_cells)
            left_BRD, right_BDC = queries_BND[sets, rows], cells_BMD[sets, start:stop].mT
            shape = (*left_BRD.shape[:2], stop - start)
            if buffer.numel() < math.prod(shape):
                buffer = queries_BND.new_empty(math.prod(shape))
            tile = torch.bmm(left_BRD, right_BDC, out=buffer[: math.prod(shape)].view(shape))
            if valid_BM is not None:
                tile.masked_fill_(~valid_BM[sets, None, start:stop], -torch.inf)
            if windows is not None:
                index_NK, inside_NK = (window[sets, rows] for window in windows)
                if columns < num_cells:
                    inside_NK = inside_NK & (index_NK >= start) & (index_NK < stop)
                    index_NK = (index_NK - start).clamp_(0, stop - start - 1)
                near_NK = tile.gather(2, index_NK).masked_fill_(~inside_NK, -torch.inf)
                found.inside_N[sets, rows] = found.inside_N[sets, rows].maximum(near_NK.amax(dim=2))
                exclude_(tile, index_NK, inside_NK)
            _keep_best(tile, start, (sets, rows), found.index_N, found.similarity_N)
    return found


def chunks(queries_BND: Tensor, num_cells: int, memory_mib: int) -> Iterator[tuple[slice, slice]]:
    """Yields parts of sets of queries, as slices of B and N, whose similarities fit into memory.

    On a CPU they fit into its cache, too (`CPU_TILE`). A part is at least one query.
    """
    room = memory_mib * 2**18
    if queries_BND.device.type == "cpu":
        room = min(room, CPU_TILE)
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
    buffer_CR = queries_DR.new_empty(_COARSE_COLUMNS, len(queries_RD))
    for cells_CD in torch.split(cells_MD, _COARSE_COLUMNS):
        similarity_CR = torch.mm(cells_CD.bfloat16(), queries_DR, out=buffer_CR[: len(cells_CD)])
        # The bits of non-negative bfloat16 numbers are ordered like integers, whose maximum is
        # several times faster.
        bits_CR = similarity_CR.view(torch.int16)
        whole = len(bits_CR) // _BLOCK * _BLOCK
        maxima.append(bits_CR[:whole].view(-1, _BLOCK, bits_CR.shape[1]).amax(dim=1))
        if whole < len(bits_CR):
            maxima.append(bits_CR[whole:].amax(dim=0, keepdim=True))
    return torch.cat(maxima).view(torch.bfloat16).float()


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
