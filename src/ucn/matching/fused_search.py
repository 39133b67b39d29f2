"""The search of `ucn.matching.search` as one Triton kernel that does not store the similarities.

Each program holds a block of queries and iterates over a part of the cells. Each of its lanes
tracks its best cell so far. The excluded cells are passed as one span per row of the map
(`excluded_spans`, computed in float64). So no mask is stored, and the kernel's rounding does not
affect the border of the excluded region. Products are in float32 (``input_precision="ieee"``),
since TF32 cannot order similarities that differ by less than 1e-3. The result does not depend on
the order in which programs run.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ucn.matching.exclusion import Exclusion, excluded_spans

BLOCK_QUERIES = 64
BLOCK_CELLS = 64
MIN_PART = 1024
MAX_PARTS = 32


@torch.no_grad()
def fused_search(
    queries_BND: Tensor, cells_BMD: Tensor, valid_BM: Tensor | None, exclusion: Exclusion | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Searches all cells for each query; arguments and result as in `ucn.matching.search.search`.

    Ties are resolved to the lowest cell. At most 32 candidates per query are held.
    """
    queries_BND, cells_BMD = queries_BND.float().contiguous(), cells_BMD.float().contiguous()
    (num_sets, num_queries, dimension), num_cells = queries_BND.shape, cells_BMD.shape[1]
    device = queries_BND.device
    if exclusion is None:  # one empty span
        width = 1
        top_BN = torch.zeros(num_sets, num_queries, device=device)
        span_BNS2 = torch.zeros(num_sets, num_queries, 1, 2, device=device)
    else:
        points_BN2, grid, radius = exclusion
        width = grid.width
        top_BN, span_BNS2 = excluded_spans(points_BN2.to(device), grid, radius)
    # Several parts keep the GPU busy if there are few queries. Each starts at a block boundary.
    parts = min(MAX_PARTS, triton.cdiv(num_cells, MIN_PART))
    part_cells = triton.cdiv(triton.cdiv(num_cells, parts), BLOCK_CELLS) * BLOCK_CELLS
    parts = triton.cdiv(num_cells, part_cells)
    outside_PBN = queries_BND.new_empty(parts, num_sets, num_queries)
    inside_PBN = torch.empty_like(outside_PBN)
    index_PBN = torch.empty_like(outside_PBN, dtype=torch.int32)
    with torch.cuda.device_of(queries_BND):  # type: ignore[no-untyped-call]
        _kernel[triton.cdiv(num_queries, BLOCK_QUERIES), parts, num_sets](
            queries_BND,
            cells_BMD,
            None if valid_BM is None else valid_BM.contiguous().view(torch.uint8),
            top_BN.int(),
            span_BNS2.int().contiguous(),
            outside_PBN,
            index_PBN,
            inside_PBN,
            num_queries,
            num_cells,
            dimension,
            width,
            part_cells,
            SPANS=span_BNS2.shape[2],
            QUERIES=BLOCK_QUERIES,
            CELLS=BLOCK_CELLS,
            DEPTH=32,
            num_warps=8,
            enable_fp_fusion=True,
        )
    outside_BN = outside_PBN.amax(dim=0)
    index_BN = torch.where(outside_PBN == outside_BN, index_PBN, num_cells).amin(dim=0)
    return index_BN.long(), outside_BN, inside_PBN.amax(dim=0)


def _search_part(
    queries: tl.tensor,
    cells: tl.tensor,
    valid: tl.tensor,
    top: tl.tensor,
    span: tl.tensor,
    outside: tl.tensor,
    index: tl.tensor,
    inside: tl.tensor,
    num_queries: tl.tensor,
    num_cells: tl.tensor,
    dimension: tl.tensor,
    width: tl.tensor,
    part_cells: tl.tensor,
    SPANS: tl.constexpr,
    QUERIES: tl.constexpr,
    CELLS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    """Searches part ``program_id(1)`` of the cells for block ``program_id(0)`` of the queries.

    Both are of set ``program_id(2)``.
    """
    this_set = tl.program_id(2).to(tl.int64)
    queries += this_set * num_queries * dimension
    cells += this_set * num_cells * dimension
    top += this_set * num_queries
    span += this_set * num_queries * SPANS * 2
    if valid is not None:
        valid += this_set * num_cells
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    is_query = query < num_queries
    query_row = queries + query.to(tl.int64) * dimension
    first_row = tl.load(top + query, mask=is_query, other=0)
    best_outside = tl.full((QUERIES, CELLS), float("-inf"), tl.float32)
    best_inside = tl.full((QUERIES, CELLS), float("-inf"), tl.float32)
    best_cell = tl.zeros((QUERIES, CELLS), tl.int32)
    begin = tl.program_id(1) * part_cells
    for first in range(begin, tl.minimum(begin + part_cells, num_cells), CELLS):
        cell = first + tl.arange(0, CELLS)
        is_cell = cell < num_cells
        cell_row = cells + cell.to(tl.int64) * dimension
        similarity = tl.zeros((QUERIES, CELLS), tl.float32)
        for start in range(0, dimension, DEPTH):
            depth = start + tl.arange(0, DEPTH)
            is_depth = depth < dimension
            left = tl.load(
                query_row[:, None] + depth[None, :],
                mask=is_query[:, None] & is_depth[None, :],
                other=0.0,
            )
            right = tl.load(
                cell_row[None, :] + depth[:, None],
                mask=is_cell[None, :] & is_depth[:, None],
                other=0.0,
            )
            similarity = tl.dot(left, right, similarity, input_precision="ieee")
        place = (cell // width)[None, :] - first_row[:, None]
        is_near_row = is_query[:, None] & (place >= 0) & (place < SPANS)
        run = span + (query[:, None] * SPANS + place) * 2
        run_start = tl.load(run, mask=is_near_row, other=0)
        run_stop = tl.load(run + 1, mask=is_near_row, other=0)
        is_near = (cell[None, :] >= run_start) & (cell[None, :] < run_stop)
        if valid is not None:
            is_cell = is_cell & (tl.load(valid + cell, mask=is_cell, other=0) != 0)
        is_inside = is_near & is_cell[None, :] & (similarity > best_inside)
        best_inside = tl.where(is_inside, similarity, best_inside)
        is_outside = ~is_near & is_cell[None, :] & (similarity > best_outside)
        best_outside = tl.where(is_outside, similarity, best_outside)
        best_cell = tl.where(is_outside, cell[None, :], best_cell)
    # Each lane holds the lowest of its equally similar cells, so the minimum is the lowest of all.
    outside_best = tl.max(best_outside, axis=1)
    is_best = best_outside == outside_best[:, None]
    lowest = tl.min(tl.where(is_best, best_cell, num_cells), axis=1)
    out = (tl.program_id(1) * tl.num_programs(2) + this_set) * num_queries + query
    tl.store(outside + out, outside_best, mask=is_query)
    tl.store(index + out, lowest, mask=is_query)
    tl.store(inside + out, tl.max(best_inside, axis=1), mask=is_query)


_kernel = triton.jit(_search_part)
