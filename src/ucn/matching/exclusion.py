"""The exclusion radius: cells too near the true position to be negatives."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ucn.matching.features import cells_to_pixels, pixels_to_cells


class Grid(NamedTuple):
    """A feature map's cells: how many, and at which pixels (see `ucn.matching.features`)."""

    height: int
    width: int
    stride: float
    offset: float


@dataclass(frozen=True)
class Negatives:
    """One negative for each query.

    Attributes:
        index_N: int64, row among the cells searched; 0 where there is none.
        valid_N: bool, False where every cell is excluded.
        hit_N: bool, the query's nearest cell of all lies within the radius of the truth.
    """

    index_N: Tensor
    valid_N: Tensor
    hit_N: Tensor


@dataclass(frozen=True)
class _Discs:
    """The square windows of S x S cells around N points, and the discs within them.

    Attributes:
        x_NS, y_NS: int64, the windows' columns and rows; may lie outside the map.
        inside_NSS: bool, [row, column] of the window: in the map and within the radius.
    """

    x_NS: Tensor
    y_NS: Tensor
    inside_NSS: Tensor


def _discs(points_N2: Tensor, grid: Grid, radius: float) -> _Discs:
    points = points_N2.double()
    reach = math.ceil(radius / grid.stride + 0.5)
    steps = torch.arange(-reach, reach + 1, device=points.device)
    nearest_N2 = pixels_to_cells(points, grid.stride, grid.offset).round().long()
    x_NS = nearest_N2[:, :1] + steps
    y_NS = nearest_N2[:, 1:] + steps
    dx_NS = cells_to_pixels(x_NS.double(), grid.stride, grid.offset) - points[:, :1]
    dy_NS = cells_to_pixels(y_NS.double(), grid.stride, grid.offset) - points[:, 1:]
    near_NSS = dy_NS[:, :, None] ** 2 + dx_NS[:, None, :] ** 2 <= radius**2
    x_in_NS = (x_NS >= 0) & (x_NS < grid.width)
    y_in_NS = (y_NS >= 0) & (y_NS < grid.height)
    return _Discs(x_NS, y_NS, near_NSS & y_in_NS[:, :, None] & x_in_NS[:, None, :])


def excluded_cells(points_N2: Tensor, grid: Grid, radius: float) -> tuple[Tensor, Tensor]:
    """List the cells within ``radius`` pixels (inclusive) of each point.

    Distances are taken in float64, so that the border of the disc does not depend on rounding.

    Returns:
        index_NK: int64, row-major cells of a square window around each point, clamped to the map.
        inside_NK: bool, which of them are in the map and within the radius.
    """
    discs = _discs(points_N2, grid, radius)
    x_NS = discs.x_NS.clamp(0, grid.width - 1)
    y_NS = discs.y_NS.clamp(0, grid.height - 1)
    index_NSS = y_NS[:, :, None] * grid.width + x_NS[:, None, :]
    return index_NSS.flatten(1), discs.inside_NSS.flatten(1)


def excluded_spans(points_N2: Tensor, grid: Grid, radius: float) -> tuple[Tensor, Tensor]:
    """List the cells of `excluded_cells` as runs, one for each row of the map that is reached.

    A disc meets a row in one run of cells: distances, rounded too, grow away from its middle.

    Returns:
        top_N: int64, the map's row that the first run lies in; may be negative.
        span_NS2: int64, [start, stop) of the run in row ``top + s``, row-major cells; empty where
            that row is not reached.
    """
    discs = _discs(points_N2, grid, radius)
    length_NS = discs.inside_NSS.sum(dim=2)
    first_NS1 = discs.inside_NSS.byte().argmax(dim=2, keepdim=True)
    x_NSS = discs.x_NS[:, None].expand_as(discs.inside_NSS)
    start_NS = discs.y_NS * grid.width + x_NSS.gather(2, first_NS1)[..., 0]
    return discs.y_NS[:, 0], torch.stack([start_NS, start_NS + length_NS], dim=-1)


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
