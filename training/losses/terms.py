"""What a loss is computed from, and the parts that losses share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ucn.matching.exclusion import Negatives
from ucn.matching.features import Grid


@dataclass(frozen=True)
class Direction:
    """Queries of one image of a pair against the other image.

    Attributes:
        queries_ND: unit features at the correspondences in this image.
        positives_ND: unit features at the same correspondences in the other image.
        points_N2: where those are in the other image, pixels.
        cells_MD: unit features of all cells of the other image, row by row; rows beyond
            ``grid.height * grid.width`` are cells of other pairs' images, wrong for every query.
        valid_M: bool, which cells are image and not padding; None for all.
        grid: the cells' places.
        radius: the exclusion radius, pixels.
        negatives: the mined negatives among the cells; of some queries only where the loss reads
            none.
    """

    queries_ND: Tensor
    positives_ND: Tensor
    points_N2: Tensor
    cells_MD: Tensor
    valid_M: Tensor | None
    grid: Grid
    radius: float
    negatives: Negatives


def distance(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    """L2 distance of corresponding rows, [N]; equal rows give a gradient of zero."""
    length_N: Tensor = torch.linalg.vector_norm(a_ND - b_ND, dim=-1)
    return length_N


def squared_distance(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    """Squared L2 distance of corresponding rows, [N]."""
    return (a_ND - b_ND).square().sum(dim=-1)


def negative_distance(direction: Direction) -> tuple[Tensor, Tensor]:
    """Measure how far the queries that have a negative are from it.

    Returns:
        kept_V: int64, those queries.
        distance_V: L2 distances; their gradient reaches these queries and their negatives only.
    """
    negatives = direction.negatives
    kept_V = negatives.valid_N.nonzero()[:, 0]
    wrong_VD = direction.cells_MD[negatives.index_N[kept_V]]
    return kept_V, distance(direction.queries_ND[kept_V], wrong_VD)


def mean_term(terms: Sequence[Tensor]) -> Tensor:
    """Mean over all elements of vectors; zero, with a gradient of zero, if there are none."""
    term_T = torch.cat(list(terms))
    return term_T.sum() / max(len(term_T), 1)
