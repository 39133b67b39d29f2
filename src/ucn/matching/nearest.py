"""Exact nearest-neighbour search among unit features, in bounded memory."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Visit = Callable[[slice, Tensor], None]

# A block of similarities that fits into a core's cache, where the maximum costs almost nothing.
_BLOCK_ROWS, _BLOCK_COLUMNS = 128, 3072


@torch.no_grad()
def nearest_cells(
    queries_ND: Tensor, cells_MD: Tensor, memory_mib: int, visit: Visit | None = None
) -> tuple[Tensor, Tensor]:
    """Finds the most similar cell (least L2 distance, for unit features) for each query.

    Args:
        queries_ND, cells_MD: unit features, M > 0. The search is in float32.
        memory_mib: bound on the similarities held at once (at least one query's row).
        visit: called with the rows and their similarities [rows, M] before the maximum is taken.
            It may overwrite the similarities.

    Returns:
        index_N: int64; on a CPU the lowest of equal cells.
        similarity_N: float32 cosine similarity.
    """
    queries_ND, cells_DM = queries_ND.float(), cells_MD.float().T
    num_queries, num_cells = len(queries_ND), cells_DM.shape[1]
    index_N = torch.empty(num_queries, dtype=torch.long, device=queries_ND.device)
    similarity_N = queries_ND.new_empty(num_queries)
    if visit is None and not queries_ND.is_cuda:
        for start in range(0, num_queries, _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            index_N[rows], similarity_N[rows] = _nearest_by_blocks(queries_ND[rows], cells_DM)
        return index_N, similarity_N
    rows_at_once = max(1, min(num_queries, memory_mib * 2**20 // (4 * num_cells)))
    buffer = queries_ND.new_empty(rows_at_once, num_cells)
    for start in range(0, num_queries, rows_at_once):
        rows = slice(start, min(start + rows_at_once, num_queries))
        similarity = buffer[: rows.stop - start]
        torch.mm(queries_ND[rows], cells_DM, out=similarity)
        if visit is not None:
            visit(rows, similarity)
        index_N[rows] = _argmax(similarity)
        similarity_N[rows] = similarity.gather(1, index_N[rows, None])[:, 0]
    return index_N, similarity_N


def _nearest_by_blocks(queries_ND: Tensor, cells_DM: Tensor) -> tuple[Tensor, Tensor]:
    """Searches blocks of columns, then takes the first maximum over the blocks."""
    blocks = torch.split(cells_DM, _BLOCK_COLUMNS, dim=1)
    index_NK = queries_ND.new_empty(len(queries_ND), len(blocks), dtype=torch.long)
    similarity_NK = queries_ND.new_empty(len(queries_ND), len(blocks))
    buffer = queries_ND.new_empty(len(queries_ND) * _BLOCK_COLUMNS)
    for k, block_DC in enumerate(blocks):
        width = block_DC.shape[1]
        similarity = buffer[: len(queries_ND) * width].view(len(queries_ND), width)
        torch.mm(queries_ND, block_DC, out=similarity)
        best_N = _argmax(similarity)
        similarity_NK[:, k] = similarity.gather(1, best_N[:, None])[:, 0]
        index_NK[:, k] = best_N + k * _BLOCK_COLUMNS
    best_N1 = _argmax(similarity_NK)[:, None]
    return index_NK.gather(1, best_N1)[:, 0], similarity_NK.gather(1, best_N1)[:, 0]


def _argmax(values_NM: Tensor) -> Tensor:
    if values_NM.is_cuda:
        return values_NM.argmax(dim=1)
    # NumPy's argmax is several times faster than torch's.
    return torch.from_numpy(np.asarray(values_NM.numpy().argmax(axis=1)))
