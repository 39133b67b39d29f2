"""The exclusion radius: which cells lie too near the truth to be negatives."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from training.features import pixels_to_cells


class Grid(NamedTuple):
    """A feature map's cells: how many, and at which pixels (see `training.features`)."""

    height: int
    width: int
    stride: float
    offset: float


@dataclass(frozen=True)
class Negatives:
    """One negative for each query.

    Attributes:
        index_N: int64, row-major cell of the other image; 0 where there is none.
        valid_N: bool, False where every cell is excluded.
        hit_N: bool, the query's nearest cell of all lies within the radius of the truth.
    """

    index_N: Tensor
    valid_N: Tensor
    hit_N: Tensor


def excluded_cells(points_N2: Tensor, grid: Grid, radius: float) -> tuple[Tensor, Tensor]:
    """List the cells within ``radius`` pixels (inclusive) of each point.

    Distances are taken in float64, so that the border of the disc does not depend on rounding.

    Returns:
        index_NK: int64, row-major cells of a square window around each point, clamped to the map.
        inside_NK: bool, which of them are in the map and within the radius.
    """
    points = points_N2.double()
    reach = math.ceil(radius / grid.stride + 0.5)
    steps = torch.arange(-reach, reach + 1, device=points.device)
    nearest_N2 = pixels_to_cells(points, grid.stride, grid.offset).round().long()
    x_NS = nearest_N2[:, :1] + steps
    y_NS = nearest_N2[:, 1:] + steps
    dx_NS = x_NS * grid.stride + grid.offset - points[:, :1]
    dy_NS = y_NS * grid.stride + grid.offset - points[:, 1:]
    near_NSS = dy_NS[:, :, None] ** 2 + dx_NS[:, None, :] ** 2 <= radius**2
    x_in_NS = (x_NS >= 0) & (x_NS < grid.width)
    y_in_NS = (y_NS >= 0) & (y_NS < grid.height)
    inside_NSS = near_NSS & y_in_NS[:, :, None] & x_in_NS[:, None, :]
    x_NS = x_NS.clamp(0, grid.width - 1)
    y_NS = y_NS.clamp(0, grid.height - 1)
    index_NSS = y_NS[:, :, None] * grid.width + x_NS[:, None, :]
    return index_NSS.flatten(1), inside_NSS.flatten(1)


def compact_cells(valid_M: Tensor) -> tuple[Tensor, Tensor]:
    """Number the valid cells.

    Returns:
        kept_V: int64, the valid cells.
        position_M: int64, the place of each cell among them, -1 for the others.
    """
    kept_V = valid_M.nonzero()[:, 0]
    position_M = torch.full_like(valid_M, -1, dtype=torch.long)
    position_M[kept_V] = torch.arange(len(kept_V), device=valid_M.device)
    return kept_V, position_M
