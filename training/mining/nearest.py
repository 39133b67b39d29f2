"""Exact nearest-neighbour search among unit features, in bounded memory."""

from collections.abc import Callable

import torch
from torch import Tensor

Visit = Callable[[slice, Tensor], None]


@torch.no_grad()
def nearest_cells(
    queries_ND: Tensor, cells_MD: Tensor, memory_mib: int, visit: Visit | None = None
) -> tuple[Tensor, Tensor]:
    """Find the most similar cell (least L2 distance, for unit features) for each query.

    Args:
        queries_ND, cells_MD: unit features; the search is made in float32, M > 0.
        memory_mib: bound on the similarities held at once (one query's row at the least).
        visit: called with the rows and their similarities [rows, M] before the maximum is taken;
            may overwrite them.

    Returns:
        index_N: int64.
        similarity_N: float32 cosine.
    """
    queries_ND, cells_DM = queries_ND.float(), cells_MD.float().T
    num_queries, num_cells = len(queries_ND), cells_DM.shape[1]
    rows = max(1, min(num_queries, memory_mib * 2**20 // (4 * num_cells)))
    buffer = queries_ND.new_empty(rows, num_cells)
    index_N = torch.empty(num_queries, dtype=torch.long, device=queries_ND.device)
    similarity_N = queries_ND.new_empty(num_queries)
    for start in range(0, num_queries, rows):
        chunk = slice(start, min(start + rows, num_queries))
        similarity = buffer[: chunk.stop - start]
        torch.mm(queries_ND[chunk], cells_DM, out=similarity)
        if visit is not None:
            visit(chunk, similarity)
        index_N[chunk] = _argmax(similarity)
        similarity_N[chunk] = similarity.gather(1, index_N[chunk, None])[:, 0]
    return index_N, similarity_N


def _argmax(values_NM: Tensor) -> Tensor:
    if values_NM.is_cuda:
        return values_NM.argmax(dim=1)
    # NumPy's takes a third of the time of torch's.
    return torch.from_numpy(values_NM.numpy().argmax(axis=1))
