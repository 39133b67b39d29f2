"""What a loss is computed from: the features of one image pair."""

from dataclasses import dataclass

from torch import Tensor

from training.mining.exclusion import Grid, Negatives


@dataclass(frozen=True)
class Direction:
    """Queries of one image of a pair against the other image.

    Attributes:
        queries_ND: unit features at the correspondences in this image.
        positives_ND: unit features at the same correspondences in the other image.
        points_N2: where those are in the other image, pixels.
        cells_MD: unit features of all cells of the other image, row by row.
        valid_M: bool, which cells are image and not padding; None for all.
        grid: the cells' places.
        radius: the exclusion radius, pixels.
        negatives: the mined negatives among the cells.
    """

    queries_ND: Tensor
    positives_ND: Tensor
    points_N2: Tensor
    cells_MD: Tensor
    valid_M: Tensor | None
    grid: Grid
    radius: float
    negatives: Negatives
