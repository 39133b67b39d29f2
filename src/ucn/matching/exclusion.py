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
        points_N2: true positions of the queries, pixels; [B, N, 2] for B sets.
        grid: positions of the cells; cells beyond ``height * width`` are never too close.
        radius: cells within this distance (inclusive) are excluded, pixels.
    """

    points_N2: Tensor
    grid: Grid
    radius: float


@dataclass(frozen=True)
class Negatives:
    """One negative for each query; [N], or [B, N] for B sets.

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
    """Square windows of S x S cells around points of any shape [..., 2], and the discs within them.

    Attributes:
        x_NS, y_NS: int64, columns and rows of the windows; may lie outside the map.
        inside_NSS: bool [..., row, column], whether the cell is in the map and within the radius.
    """

    x_NS: Tensor
    y_NS: Tensor
    inside_NSS: Tensor


def _discs(points_N2: Tensor, grid: Grid, radius: float) -> _Discs:
    points = points_N2.double()
    reach = math.ceil(radius / grid.stride + 0.5)
    steps = torch.arange(-reach, reach + 1, device=points.device)
    nearest_N2 = pixels_to_cells(points, grid.stride, grid.offset).round().long()
    cells_N2S = nearest_N2[..., None] + steps
    pixels_N2S = cells_to_pixels(cells_N2S.double(), grid.stride, grid.offset)
    x_NS, y_NS = cells_N2S.unbind(dim=-2)
    # Beyond the map the distance is infinite.
    squared_N2S = (pixels_N2S - points[..., None]) ** 2
    dx_NS, dy_NS = squared_N2S.unbind(dim=-2)
    dx_NS.masked_fill_(x_NS != x_NS.clamp(0, grid.width - 1), torch.inf)
    dy_NS.masked_fill_(y_NS != y_NS.clamp(0, grid.height - 1), torch.inf)
    return _Discs(x_NS, y_NS, dy_NS[..., :, None] + dx_NS[..., None, :] <= radius**2)


def excluded_cells(points_N2: Tensor, grid: Grid, radius: float) -> tuple[Tensor, Tensor]:
    """Lists the cells within ``radius`` pixels (inclusive) of each point.

    Distances are computed in float64, so rounding does not move the border of the disc.

    Args:
        points_N2: pixels, [N, 2] or [B, N, 2].

    Returns:
        index_NK: int64, row-major cells of a square window around each point, clamped to the map.
        inside_NK: bool, whether each cell is in the map and within the radius; True at most once
            for a cell.
    """
    discs = _discs(points_N2, grid, radius)
    x_NS = discs.x_NS.clamp(0, grid.width - 1)
    y_NS = discs.y_NS.clamp(0, grid.height - 1)
    index_NSS = y_NS[..., :, None] * grid.width + x_NS[..., None, :]
    return index_NSS.flatten(-2), discs.inside_NSS.flatten(-2)


def exclude_(similarity_NM: Tensor, index_NK: Tensor, inside_NK: Tensor) -> None:
    """Sets the excluded similarities to -inf, in place.

    Args:
        similarity_NM: [..., N, M], contiguous.
        index_NK, inside_NK: from `excluded_cells`.
    """
    num_cells = similarity_NM.shape[-1]
    row_N = torch.arange(index_NK[..., 0].numel(), device=index_NK.device).view(index_NK.shape[:-1])
    place_L = (row_N[..., None] * num_cells + index_NK).flatten()
    # A sum, since cells of a clamped window are listed more than once.
    term_NK = similarity_NM.new_zeros(()).expand(index_NK.shape).masked_fill(inside_NK, -torch.inf)
    similarity_NM.view(-1).index_add_(0, place_L, term_NK.flatten())


def excluded_spans(points_N2: Tensor, grid: Grid, radius: float) -> tuple[Tensor, Tensor]:
    """Lists the cells of `excluded_cells` as spans, one for each row of the map.

    A disc intersects each row in one contiguous span, since distances grow from its middle.

    Returns:
        top_N: int64, row of the map of the first span; may be negative.
        span_NS2: int64, [start, stop) of the span in row ``top + s``, as row-major cells; empty if
            the disc does not reach that row.
    """
    discs = _discs(points_N2, grid, radius)
    length_NS = discs.inside_NSS.sum(dim=-1)
    first_NS1 = discs.inside_NSS.byte().argmax(dim=-1, keepdim=True)
    x_NSS = discs.x_NS[..., None, :].expand_as(discs.inside_NSS)
    start_NS = discs.y_NS * grid.width + x_NSS.gather(-1, first_NS1)[..., 0]
    return discs.y_NS[..., 0], torch.stack([start_NS, start_NS + length_NS], dim=-1)
