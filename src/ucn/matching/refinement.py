"""Sub-pixel refinement: interpolates the maximum of the similarity on the search grid."""

import torch
from torch import Tensor

from ucn.matching.descriptors import Floats
from ucn.matching.exclusion import Grid
from ucn.matching.features import cells_to_pixels


def parabola_tops(before_N: Tensor, best_N: Tensor, after_N: Tensor) -> Tensor:
    """Maximum of the parabola through three values at -1, 0 and 1, in [-0.5, 0.5].

    The maximum is in this range if the middle value is the largest. 0 if the parabola has no
    maximum. Lowe (IJCV 2004, section 4) fits all axes at once.
    """
    bend_N = 2 * best_N - before_N - after_N
    top_N = ((after_N - before_N) / (2 * bend_N)).clamp(-0.5, 0.5)
    return torch.where(bend_N > 0, top_N, 0)


def similarities(first_ND: Tensor, second_ND: Tensor) -> Tensor:
    """Inner products of corresponding rows: float64 [N]."""
    similarity_N: Tensor = torch.linalg.vecdot(first_ND.double(), second_ND.double())
    return similarity_N


def refine_positions(
    queries_ND: Tensor, references_MD: Tensor, grid: Grid, index_N: Tensor
) -> Floats:
    """Refines matches to the maximum of the similarity, in x and y separately.

    Matches at the border of the grid do not move.

    Args:
        queries_ND: unit descriptors of the queries.
        references_MD: unit descriptors at the pixels of ``grid``, row by row.
        grid: search grid.
        index_N: index of each query's match in ``references_MD``.

    Returns:
        float32 [N, 2] pixels (x, y).
    """
    best_N = similarities(queries_ND, references_MD[index_N])

    def refined(place_N: Tensor, size: int, step: int) -> Tensor:
        inner_N = (place_N > 0) & (place_N < size - 1)
        before_N, after_N = (
            similarities(queries_ND, references_MD[torch.where(inner_N, index_N + way, index_N)])
            for way in (-step, step)
        )
        return place_N + parabola_tops(before_N, best_N, after_N)

    column_N, row_N = index_N % grid.width, index_N // grid.width
    cells_N2 = torch.stack(
        [refined(column_N, grid.width, 1), refined(row_N, grid.height, grid.width)], dim=1
    )
    positions: Floats = cells_to_pixels(cells_N2, grid.stride, grid.offset).float().cpu().numpy()
    return positions
