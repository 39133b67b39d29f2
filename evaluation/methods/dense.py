"""Dense nearest-neighbour matching: an exact search over all positions of a grid."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ucn.evaluation.config import MatchingConfig
from ucn.matching.descriptors import Describe, Floats, Match, Pixels
from ucn.matching.exclusion import Grid
from ucn.matching.features import cell_centres
from ucn.matching.filters import forward_backward_error
from ucn.matching.masked_search import masked_search
from ucn.matching.nearest import nearest_cells
from ucn.matching.refinement import refine_positions
from ucn.matching.scales import (
    describe_at_levels,
    moved_to_matches,
    nearest_at_any_scale,
    relative_scales,
)


@dataclass(frozen=True)
class PointMatches:
    """Matches of N query points of image 0 in image 1.

    Attributes:
        positions_N2: float32 pixels in image 1; NaN for a point without a match.
        similarity_N: float32 cosine similarity of the descriptors; NaN for methods without.
        way_back_N: float32 forward-backward error, pixels; infinite for a point without a match, 0
            if the search back is disabled.
        reciprocal_N: bool, whether the forward-backward error is small enough.
    """

    positions_N2: Floats
    similarity_N: Floats
    way_back_N: Floats
    reciprocal_N: NDArray[np.bool_]


@dataclass(frozen=True)
class DescribedPair:
    """Descriptors of two images: of the queries, and at all searched positions.

    Descriptors are stacks over the scales (`ucn.matching.scales`).

    Attributes:
        queries_N2: float32 pixels of image 0.
        queries_ND: unit descriptors of the queries.
        grid0, grid1: searched grids of pixels.
        grid0_LD: descriptors at the pixels of grid 0, row by row; empty without a search back.
        grid1_MD: descriptors at the pixels of grid 1, row by row.
        keypoints1: further points of image 1 by name: float32 pixels [K, 2] and descriptors.
    """

    queries_N2: Floats
    queries_ND: Tensor
    grid0: Grid
    grid1: Grid
    grid0_LD: Tensor
    grid1_MD: Tensor
    keypoints1: Mapping[str, tuple[Floats, Tensor]]


def grid_points(width: int, height: int, step: int) -> Floats:
    """Every step-th pixel (x, y) of an image row by row, from (0, 0): float32 [M, 2]."""
    y, x = np.mgrid[0:height:step, 0:width:step]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def grid_pixels(grid: Grid) -> Floats:
    """Pixel (x, y) of every cell of a grid, row by row: float32 [M, 2]."""
    pixels_M2: Floats = cell_centres(grid.height, grid.width, grid.stride, grid.offset).numpy()
    return pixels_M2


def nearest_neighbours(
    queries_ND: Floats, references_MD: Floats, memory_mib: int = 256
) -> tuple[NDArray[np.int64], Floats]:
    """Finds the nearest of M unit descriptors for each of N, exactly and in bounded memory.

    Args:
        queries_ND, references_MD: float32 rows of unit length (or zero); M > 0.
        memory_mib: bound on the similarities held at once.

    Returns:
        index_N (the lowest of equal candidates) and cosine similarity_N.
    """
    if queries_ND.ndim != 2 or references_MD.ndim != 2 or not len(references_MD):
        raise ValueError(f"cannot search {queries_ND.shape} in {references_MD.shape}")
    index_N, similarity_N = nearest_cells(
        torch.from_numpy(queries_ND), torch.from_numpy(references_MD), memory_mib
    )
    return index_N.numpy(), similarity_N.numpy()


def describe_pair(
    image0: Pixels,
    image1: Pixels,
    queries_N2: Floats,
    describe: Describe,
    config: MatchingConfig,
    keypoints1: Mapping[str, Floats] | None = None,
    device: str = "cpu",
) -> DescribedPair:
    """Describes the queries and both grids, with one call per image.

    Args:
        image0, image1: uint8 [H, W] or [H, W, 3]; their sizes may differ.
        queries_N2: float32 pixels in image 0.
        describe: descriptor of points.
        config: matching options.
        keypoints1: further points of image 1, by name.
        device: device on which the descriptors are stored and compared.
    """
    describe_stacks = describe_at_levels(describe, config.scales)
    sets1 = dict(keypoints1 or {})
    grid0, grid1 = (_grid(image, config.grid_step) for image in (image0, image1))
    points0 = [queries_N2, *([grid_pixels(grid0)] if config.reciprocity_px > 0 else [])]
    points1 = [grid_pixels(grid1), *sets1.values()]
    described0, described1 = (
        torch.from_numpy(describe_stacks(image, np.concatenate(points))).to(device)
        for image, points in ((image0, points0), (image1, points1))
    )
    grid1_MD, *rows = torch.split(described1, [len(points) for points in points1])
    return DescribedPair(
        queries_N2=queries_N2,
        queries_ND=described0[: len(queries_N2)],
        grid0=grid0,
        grid1=grid1,
        grid0_LD=described0[len(queries_N2) :],
        grid1_MD=grid1_MD,
        keypoints1=dict(zip(sets1, zip(sets1.values(), rows, strict=True), strict=True)),
    )


def match_described(pair: DescribedPair, config: MatchingConfig) -> PointMatches:
    """Matches the queries to the nearest descriptors among all pixels of grid 1."""
    index_N, similarity_N = nearest_at_any_scale(
        pair.queries_ND, pair.grid1_MD, config.scales, config.memory_mib
    )
    found_N = index_N.cpu().numpy()
    positions_N2 = grid_pixels(pair.grid1)[found_N]
    way_back_N = np.zeros(len(found_N), np.float32)
    if config.reciprocity_px > 0:
        back_N2 = search_back(pair, pair.grid1_MD[index_N], config)
        way_back_N = forward_backward_error(pair.queries_N2, back_N2)
    if config.subpixel:
        moved_ND = moved_to_matches(pair.queries_ND, pair.grid1_MD[index_N], config.scales)
        positions_N2 = refine_positions(moved_ND, pair.grid1_MD, pair.grid1, index_N)
    return PointMatches(
        positions_N2, similarity_N.cpu().numpy(), way_back_N, way_back_N <= config.reciprocity_px
    )


def match_keypoints(pair: DescribedPair, name: str, config: MatchingConfig) -> Floats:
    """Matches the queries to the nearest of a set of points of image 1: float32 [N, 2] pixels.

    Returns:
        All NaN if the set is empty.
    """
    points_K2, described_KD = pair.keypoints1[name]
    if not len(points_K2):
        return np.full_like(pair.queries_N2, np.nan)
    index_N, _ = nearest_at_any_scale(
        pair.queries_ND, described_KD, config.scales, config.memory_mib
    )
    positions_N2: Floats = points_K2[index_N.cpu().numpy()]
    return positions_N2


def search_back(pair: DescribedPair, described_ND: Tensor, config: MatchingConfig) -> Floats:
    """Pixels of grid 0 with the nearest descriptors to those of image 1: float32 [N, 2]."""
    index_N, _ = nearest_at_any_scale(described_ND, pair.grid0_LD, config.scales, config.memory_mib)
    back_N2: Floats = grid_pixels(pair.grid0)[index_N.cpu().numpy()]
    return back_N2


def second_similarities(
    pair: DescribedPair, positions_N2: Floats, config: MatchingConfig
) -> Floats:
    """Similarity to the second-best descriptor, for the ratio test.

    On a dense grid the neighbours of a match are similar to it. So candidates within
    `MatchingConfig.second_radius_px` of the match are excluded.

    Returns:
        float32 [N]; -inf if the radius covers the whole grid.
    """
    best_N2 = torch.from_numpy(positions_N2).to(pair.queries_ND.device)
    radius, memory_mib = config.second_radius_px, config.memory_mib
    outside = [
        masked_search(moved, pair.grid1_MD, best_N2, pair.grid1, radius, None, memory_mib).outside_N
        for moved in relative_scales(pair.queries_ND, config.scales)
    ]
    second_N: Floats = torch.stack(outside).amax(dim=0).cpu().numpy()
    return second_N


def match_points(
    image0: Pixels, image1: Pixels, queries_N2: Floats, describe: Describe, config: MatchingConfig
) -> PointMatches:
    """Matches points of image 0 to the nearest descriptors among all grid positions of image 1.

    Args:
        image0, image1: uint8 [H, W] or [H, W, 3]; their sizes may differ.
        queries_N2: float32 pixels in image 0.
        describe: descriptor of points.
        config: matching options.
    """
    return match_described(describe_pair(image0, image1, queries_N2, describe, config), config)


def match_directly(
    image0: Pixels, image1: Pixels, queries_N2: Floats, match: Match, config: MatchingConfig
) -> PointMatches:
    """Matches points in both directions by a method without descriptors, such as optical flow."""
    positions_N2 = match(image0, image1, queries_N2)
    found_N = np.isfinite(positions_N2).all(axis=1)
    way_back_N = np.where(found_N, 0, np.inf).astype(np.float32)
    if config.reciprocity_px > 0 and found_N.any():
        way_N = forward_backward_error(
            queries_N2[found_N], match(image1, image0, positions_N2[found_N])
        )
        way_back_N[found_N] = np.where(np.isnan(way_N), np.inf, way_N)
    # A radius of 0 disables the search back; the forward-backward error of matches is then 0.
    return PointMatches(
        positions_N2,
        np.full(len(queries_N2), np.nan, np.float32),
        way_back_N,
        way_back_N <= config.reciprocity_px,
    )


def _grid(image: Pixels, step: int) -> Grid:
    height, width = image.shape[:2]
    return Grid(-(-height // step), -(-width // step), step, 0)
