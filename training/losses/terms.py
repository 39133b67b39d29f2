"""What a loss is computed from, and the parts that losses share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ucn.matching.exclusion import Negatives
from ucn.matching.features import Grid


@dataclass(frozen=True)
class Directions:
    """Queries of one image of a pair against the other image, for both directions of all pairs.

    Rows 2 p and 2 p + 1 of the first axis, B, are the two directions of pair p.

    Attributes:
        queries_BND: unit features at the correspondences in this image.
        positives_BND: unit features at the same correspondences in the other image.
        points_BN2: where those are in the other image, pixels.
        present_BN: bool, False for rows that fill up pairs with fewer correspondences.
        cells_BMD: unit features of all cells of the other image, row by row; rows beyond
            ``grid.height * grid.width`` are cells of other pairs' images, wrong for every query.
        valid_BM: bool, which cells are image and not padding; None for all.
        grid: the cells' places.
        radius: the exclusion radius, pixels.
        negatives: the mined negatives among the cells; of some queries only where the loss reads
            none.
        product_dtype: of the inner products with all cells, where the loss takes these.
    """

    queries_BND: Tensor
    positives_BND: Tensor
    points_BN2: Tensor
    present_BN: Tensor
    cells_BMD: Tensor
    valid_BM: Tensor | None
    grid: Grid
    radius: float
    negatives: Negatives
    product_dtype: torch.dtype


def distance(a_BND: Tensor, b_BND: Tensor) -> Tensor:
    """L2 distance of corresponding rows, [B, N]; equal rows give a gradient of zero."""
    length_BN: Tensor = torch.linalg.vector_norm(a_BND - b_BND, dim=-1)
    return length_BN


def squared_distance(directions: Directions) -> Tensor:
    """Squared L2 distance of the queries to their positives, [B, N]."""
    return (directions.queries_BND - directions.positives_BND).square().sum(dim=-1)


def negative_distance(directions: Directions) -> tuple[Tensor, Tensor]:
    """Measure how far the queries are from their negatives.

    Returns:
        distance_BN: L2 distances; their gradient reaches the queries and their negatives only.
        exists_BN: bool, which queries are present and have a negative.
    """
    negatives, cells_BMD = directions.negatives, directions.cells_BMD
    num_sets, num_cells, _ = cells_BMD.shape
    first_B1 = torch.arange(0, num_sets * num_cells, num_cells, device=cells_BMD.device)[:, None]
    row_BN = (negatives.index_N + first_B1).flatten()
    wrong_BND = cells_BMD.flatten(0, 1).index_select(0, row_BN).view_as(directions.queries_BND)
    exists_BN = negatives.valid_N & directions.present_BN
    return distance(directions.queries_BND, wrong_BND), exists_BN


def mean_term(term_BN: Tensor, weight_BN: Tensor, axis: tuple[int, ...] = (1, 2)) -> Tensor:
    """Weighted mean of the terms of each pair, over both directions; zero if all weights are.

    Args:
        weight_BN: bool, or a number; those of a pair add up to at least 1 unless all are 0.
        axis: (2,) for the mean of each direction, [pairs, 2].
    """
    shape = len(term_BN) // 2, 2, term_BN.shape[1]
    sum_P = (term_BN * weight_BN).view(shape).sum(dim=axis)
    return sum_P / weight_BN.view(shape).sum(dim=axis).clamp(min=1)
