"""Exclusion radius: cells too close to the true position to be used as negatives."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ucn.matching.features import Grid, cells_to_pixels, pixels_to_cells


class Exclusion(NamedTuple):
    """Cells that are too close to each query's true position.

    Attributes:
        points_N2: true positions of the queries, pixels.
        grid: positions of the cells; cells beyond ``height * width`` are never too close.
        radius: cells within this distance (inclusive) are excluded, pixels.
    """

    points_N2: Tensor
    grid: Grid
    radius: float


@dataclass(frozen=True)
class Negatives:
    """One negative for each query.

    Attributes:
        index_N: int64, index of the negative among the searched cells; 0 if there is none.
        valid_N: bool, False if all cells are excluded.
        hit_N: bool, whether the query's nearest cell lies within the radius of the true position.
    """

    index_N: Tensor
    valid_N: Tensor
    hit_N: Tensor


@dataclass(frozen=True)
class _Discs:
    """Square windows of S x S cells around N points, and the discs within them.

    Attributes:
        x_NS, y_NS: int64, columns and rows of the windows; may lie outside the map.
        inside_NSS: bool [N, row, column], whether the cell is in the map and within the radius.
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
    """Lists the cells within ``radius`` pixels (inclusive) of each point.

    Distances are computed in float64, so rounding does not move the border of the disc.

    Returns:
        index_NK: int64, row-major cells of a square window around each point, clamped to the map.
        inside_NK: bool, whether each cell is in the map and within the radius.
    """
    discs = _discs(points_N2, grid, radius)
    x_NS = discs.x_NS.clamp(0, grid.width - 1)
    y_NS = discs.y_NS.clamp(0, grid.height - 1)
    index_NSS = y_NS[:, :, None] * grid.width + x_NS[:, None, :]
    return index_NSS.flatten(1), discs.inside_NSS.flatten(1)


def excluded_spans(points_N2: Tensor, grid: Grid, radius: float) -> tuple[Tensor, Tensor]:
    """Lists the cells of `excluded_cells` as spans, one for each row of the map.

    A disc intersects each row in one contiguous span, since distances grow from its middle.

    Returns:
        top_N: int64, row of the map of the first span; may be negative.
        span_NS2: int64, [start, stop) of the span in row ``top + s``, as row-major cells; empty if
            the disc does not reach that row.
    """
    discs = _discs(points_N2, grid, radius)
    length_NS = discs.inside_NSS.sum(dim=2)
    first_NS1 = discs.inside_NSS.byte().argmax(dim=2, keepdim=True)
    x_NSS = discs.x_NS[:, None].expand_as(discs.inside_NSS)
    start_NS = discs.y_NS * grid.width + x_NSS.gather(2, first_NS1)[..., 0]
    return discs.y_NS[:, 0], torch.stack([start_NS, start_NS + length_NS], dim=-1)


def compact_cells(valid_M: Tensor) -> tuple[Tensor, Tensor]:
    """Enumerates the valid cells.

    Returns:
        kept_V: int64, indices of the valid cells.
        position_M: int64, index of each cell in ``kept_V``; -1 for invalid cells.
    """
    kept_V = valid_M.nonzero()[:, 0]
    position_M = torch.full_like(valid_M, -1, dtype=torch.long)
    position_M[kept_V] = torch.arange(len(kept_V), device=valid_M.device)
    return kept_V, position_M
