"""The search of `ucn.matching.search` as one Triton kernel that does not store the similarities.

Tensor cores multiply float16 and accumulate in float32. Each descriptor is the sum of two float16
rows, 22 bits, and a similarity is the sum of three of their four products (Ootomo and Yokota,
"Recovering single precision accuracy from Tensor Cores", 2022). The table compares such schemes on
smooth maps whose cosines all exceed 0.999, emulated on a CPU with sums cut to 24 bits: the largest
loss of similarity against the float64 search, and the time of the products in units of one of
float16.

| | float32 | TF32 | TF32 x3 | bfloat16 x3 | bfloat16 x6 | float16 x3 |
| --- | --- | --- | --- | --- | --- | --- |
| D = 64 | 3.0e-7 | 3.3e-5 | 1.2e-7 | 2.1e-6 | 9.0e-8 | 1.0e-7 |
| D = 256 | 5.2e-7 | 2.6e-5 | 2.8e-7 | 1.4e-6 | 1.8e-7 | 1.9e-7 |
| products | - | 2 | 6 | 3 | 6 | 3 |

Each program holds a block of queries and iterates over tiles of a part of the cells. The excluded
cells are passed as one span per row of the map (`excluded_spans`, computed in float64). So no mask
is stored, and the kernel's rounding does not affect the border of the excluded region. The result
does not depend on the order in which programs run.
"""

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from ucn.matching.exclusion import Exclusion, excluded_spans

MIN_PART = 1024
# Programs that keep a GPU busy; more parts only add partial results.
_PROGRAMS = 1024
_TILES = [  # queries, cells, warps, stages
    (64, 64, 4, 2),
    (64, 64, 4, 3),
    (64, 128, 4, 2),
    (128, 64, 4, 3),
    (128, 128, 8, 2),
    (128, 128, 8, 3),
]
CONFIGS = [
    triton.Config({"QUERIES": queries, "CELLS": cells}, num_warps=warps, num_stages=stages)
    for queries, cells, warps, stages in _TILES
]


@torch.no_grad()
def fused_search(
    queries_BND: Tensor, cells_BMD: Tensor, valid_BM: Tensor | None, exclusion: Exclusion | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Searches all cells for each query; arguments and result as in `ucn.matching.search.search`.

    Ties are resolved to the lowest cell. The kernel is compiled anew for the dimension, rounded up,
    and with or without ``valid_BM`` or ``exclusion``, not for other sizes.
    """
    (num_sets, num_queries, _), num_cells = queries_BND.shape, cells_BMD.shape[1]
    device = queries_BND.device
    query_high, query_low, query_scale_BN1 = _split(queries_BND, (2,))
    cell_high, cell_low, cell_scale_B11 = _split(cells_BMD, (1, 2))
    top_BN, span_BNS2, width = None, None, num_cells
    if exclusion is not None:
        width = exclusion.grid.width
        spans = excluded_spans(exclusion.points_N2.to(device), exclusion.grid, exclusion.radius)
        top_BN, span_BNS2 = spans[0].int(), spans[1].int().contiguous()
    programs = max(1, num_sets * triton.cdiv(num_queries, 64))
    parts = min(triton.cdiv(num_cells, MIN_PART), triton.cdiv(_PROGRAMS, programs))
    part_cells = triton.cdiv(num_cells, parts)
    parts = triton.cdiv(num_cells, part_cells)
    outside_PBN = torch.empty(parts, num_sets, num_queries, device=device)
    inside_PBN = torch.empty_like(outside_PBN)
    index_PBN = torch.empty_like(outside_PBN, dtype=torch.int32)

    def grid(meta: Mapping[str, Any]) -> tuple[int, int, int]:
        return triton.cdiv(num_queries, meta["QUERIES"]), parts, num_sets

    with torch.cuda.device_of(queries_BND):  # type: ignore[no-untyped-call]
        _kernel[grid](
            query_high,
            query_low,
            cell_high,
            cell_low,
            None if valid_BM is None else valid_BM.contiguous().view(torch.uint8),
            top_BN,
            span_BNS2,
            outside_PBN,
            index_PBN,
            inside_PBN,
            num_queries,
            num_cells,
            width,
            part_cells,
            0 if span_BNS2 is None else span_BNS2.shape[2],
            (num_sets * num_queries * num_cells).bit_length() // 4,
            DIMENSION=query_high.shape[2],
            DEPTH=_depth(query_high.shape[2]),
        )
    outside_BN = outside_PBN.amax(dim=0)
    index_BN = torch.where(outside_PBN == outside_BN, index_PBN, num_cells).amin(dim=0)
    outside_BN, inside_BN = (
        values_BN * query_scale_BN1[..., 0] * cell_scale_B11[..., 0]
        for values_BN in (outside_BN, inside_PBN.amax(dim=0))
    )
    return index_BN.long(), outside_BN, inside_BN


def _split(rows_BND: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Splits rows into two float16 rows: ``rows = (high + low) * scale``, to 22 bits.

    Args:
        axes: those that share a scale.

    Returns:
        high_BND, low_BND: padded with zeros to a dimension of 16, 32, or a multiple of 64.
        scale: float32 powers of two. The largest of the scaled rows is near 2**13, so that the low
            part is a normal number where it matters.
    """
    dimension = rows_BND.shape[-1]
    padding = -dimension % max(16, min(64, triton.next_power_of_2(dimension)))
    rows_BND = F.pad(rows_BND.float(), (0, padding)) if padding else rows_BND.float()
    largest = torch.linalg.vector_norm(rows_BND, torch.inf, axes, keepdim=True).clamp(min=2.0**-100)
    scale = largest / torch.frexp(largest).mantissa * 2.0**-13
    scaled_BND = rows_BND / scale
    high_BND = scaled_BND.half().contiguous()
    return high_BND, scaled_BND.sub_(high_BND).half().contiguous(), scale


def _search_part(
    query_high: tl.tensor,
    query_low: tl.tensor,
    cell_high: tl.tensor,
    cell_low: tl.tensor,
    valid: tl.tensor,
    top: tl.tensor,
    span: tl.tensor,
    outside: tl.tensor,
    index: tl.tensor,
    inside: tl.tensor,
    num_queries: tl.tensor,
    num_cells: tl.tensor,
    width: tl.tensor,
    part_cells: tl.tensor,
    num_spans: tl.tensor,
    size_class: tl.tensor,
    DIMENSION: tl.constexpr,
    DEPTH: tl.constexpr,
    QUERIES: tl.constexpr,
    CELLS: tl.constexpr,
) -> None:
    """Searches part ``program_id(1)`` of the cells for block ``program_id(0)`` of the queries.

    Both are of set ``program_id(2)``. The tiles are tuned for each ``size_class``.
    """
    this_set = tl.program_id(2).to(tl.int64)
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    is_query = query < num_queries
    depth = tl.arange(0, DEPTH)
    left = (this_set * num_queries + query)[:, None] * DIMENSION + depth[None, :]
    right = tl.arange(0, CELLS)[None, :] * DIMENSION + depth[:, None]
    if span is not None:
        first_row = tl.load(top + this_set * num_queries + query, mask=is_query, other=0)
        query_span = span + (this_set * num_queries + query) * num_spans * 2
        # A tile reaches into two rows of the map at most.
        step = tl.minimum(width, CELLS)
    else:
        step = CELLS
    best_outside = tl.full((QUERIES,), float("-inf"), tl.float32)
    best_inside = tl.full((QUERIES,), float("-inf"), tl.float32)
    best_cell = tl.zeros((QUERIES,), tl.int32)
    begin = tl.program_id(1) * part_cells
    end = tl.minimum(begin + part_cells, num_cells)
    for first in range(begin, end, step):
        cell = first + tl.arange(0, CELLS)
        is_cell = cell < tl.minimum(first + step, end)
        tile = (this_set * num_cells + first) * DIMENSION
        similarity = tl.zeros((QUERIES, CELLS), tl.float32)
        for start in range(0, DIMENSION, DEPTH):
            q_high = tl.load(query_high + start + left, mask=is_query[:, None], other=0.0)
            q_low = tl.load(query_low + start + left, mask=is_query[:, None], other=0.0)
            c_high = tl.load(cell_high + tile + start + right, mask=is_cell[None, :], other=0.0)
            c_low = tl.load(cell_low + tile + start + right, mask=is_cell[None, :], other=0.0)
            similarity = tl.dot(q_low, c_high, similarity)
            similarity = tl.dot(q_high, c_low, similarity)
            similarity = tl.dot(q_high, c_high, similarity)
        if valid is not None:
            is_cell = is_cell & (
                tl.load(valid + this_set * num_cells + cell, mask=is_cell, other=0) != 0
            )
        similarity = tl.where(is_cell[None, :], similarity, float("-inf"))
        if span is not None:
            is_near = tl.zeros((QUERIES, CELLS), tl.int1)
            for row in tl.static_range(2):
                place = first // width + row - first_row
                is_row = is_query & (place >= 0) & (place < num_spans)
                span_start = tl.load(query_span + place * 2, mask=is_row, other=0)
                span_stop = tl.load(query_span + place * 2 + 1, mask=is_row, other=0)
                is_near = is_near | (
                    (cell[None, :] >= span_start[:, None]) & (cell[None, :] < span_stop[:, None])
                )
            near = tl.where(is_near, similarity, float("-inf"))
            best_inside = tl.maximum(best_inside, tl.max(near, axis=1))
            similarity = tl.where(is_near, float("-inf"), similarity)
        tile_best = tl.max(similarity, axis=1)
        is_best = similarity == tile_best[:, None]
        tile_cell = tl.min(tl.where(is_best, cell[None, :], num_cells), axis=1)
        best_cell = tl.where(tile_best > best_outside, tile_cell, best_cell)
        best_outside = tl.maximum(best_outside, tile_best)
    out = (tl.program_id(1) * tl.num_programs(2) + this_set) * num_queries + query
    tl.store(outside + out, best_outside, mask=is_query)
    tl.store(index + out, best_cell, mask=is_query)
    tl.store(inside + out, best_inside, mask=is_query)


def _depth(dimension: int) -> int:
    """Descriptor entries that a tile holds: all, unless that takes too much memory."""
    return dimension if dimension <= 128 else 64


def _that_fit(
    configs: list[triton.Config], named_args: Mapping[str, Any], **meta: Any
) -> list[triton.Config]:
    """Leaves out tiles that exceed the shared memory of a program; keeps one at least."""
    properties = triton.runtime.driver.active.utils.get_device_properties(
        named_args["query_high"].device.index
    )
    room = properties["max_shared_mem"]
    return [c for c in configs if shared_bytes(c, meta["DIMENSION"]) <= room] or configs[:1]


def shared_bytes(config: triton.Config, dimension: int) -> int:
    """Shared memory of both float16 parts of the queries and of the cells in all stages, bytes."""
    depth = _depth(dimension)
    queries, cells = config.kwargs["QUERIES"], config.kwargs["CELLS"]
    # Queries that are held in whole are loaded once.
    stages = config.num_stages if depth < dimension else 1
    rows: int = stages * queries + config.num_stages * cells
    return rows * depth * 4


# Sizes and the alignment of slices vary; a kernel compiled for their divisors would be one of many.
_jit = triton.jit(
    do_not_specialize=[
        "num_queries",
        "num_cells",
        "width",
        "part_cells",
        "num_spans",
        "size_class",
    ],
    do_not_specialize_on_alignment=["valid"],
)
_kernel = triton.autotune(
    # Nothing is timed in the interpreter.
    CONFIGS[:1] if triton.knobs.runtime.interpret else CONFIGS,
    key=["DIMENSION", "size_class"],
    prune_configs_by={"early_config_prune": _that_fit},
    cache_results=True,
)(_jit(_search_part))
