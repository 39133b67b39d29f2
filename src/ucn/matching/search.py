"""Exact nearest-neighbour search among descriptors: the one search of mining and matching.

On a CPU the similarities are computed in tiles that stay in its cache. Where a CPU multiplies
bfloat16 in hardware, a coarse pass comes first (`ucn.matching.coarse_search`). On CUDA a fused
kernel does the same work (`ucn.matching.fused_search`). All three give the answers of float32.
"""

import math
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ucn.matching.coarse_search import COLUMNS, ROWS, coarse_search, pays_coarse_search, round_cells
from ucn.matching.exclusion import Exclusion, exclude_, excluded_cells

CPU_TILE, CPU_COLUMNS = 3 << 17, 3 << 10
"""Similarities that fit into a core's cache, where the maximum costs almost nothing; and the cells
of a tile."""


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
    """Whether the fused kernel runs on a device: a GPU from Ampere on, with Triton."""
    return (
        device.type == "cuda"
        and find_spec("triton") is not None
        # Older tensor cores are not supported by Triton.
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


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
    if not pays_coarse_search(queries_BND, cells_BMD):
        return _search_exact(queries_BND, cells_BMD, valid_BM, window, memory_mib)
    num_rows = min(ROWS, queries_BND.shape[1])
    num_rows = max(1, min(num_rows, (memory_mib << 19) // COLUMNS))
    # Fresh memory would cost as much as the product.
    buffer = torch.empty(num_rows * COLUMNS, dtype=torch.bfloat16)
    parts = []
    for b, cells_MD in enumerate(cells_BMD):
        sets, rounded_CD = slice(b, b + 1), round_cells(cells_MD)
        valid_1M = None if valid_BM is None else valid_BM[sets]
        for first in range(0, queries_BND.shape[1], num_rows):
            rows = slice(first, first + num_rows)
            near = None if window is None else (window[0][sets, rows], window[1][sets, rows])
            queries_1ND, cells_1MD = queries_BND[sets, rows], cells_BMD[sets]
            parts.append(
                coarse_search(queries_1ND, cells_1MD, rounded_CD, valid_1M, near, buffer)
                or _search_exact(queries_1ND, cells_1MD, valid_1M, near, memory_mib)
            )
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
