"""Exact descriptor search in a whole image, in bands of rows to bound the memory."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ucn.evaluation.methods.dense import grid_pixels
from ucn.evaluation.methods.network import read_features
from ucn.matching.descriptors import Floats, Pixels
from ucn.matching.exclusion import Grid
from ucn.matching.masked_search import masked_search
from ucn.matching.refinement import parabola_tops, similarities
from ucn.matching.scales import (
    image_levels,
    level_points,
    moved_to_matches,
    nearest_at_any_scale,
    relative_scales,
    stacked,
)
from ucn.training.model import Model
from ucn.training.networks.tiling import describe_tiled

DescribePoints = Callable[[Floats], Tensor]
"""Maps points_N2 of one image, float32 pixels, to unit descriptors_ND, float32."""
DescribeImage = Callable[[Pixels], DescribePoints]
"""Prepares an image, uint8 [H, W] or [H, W, 3] RGB, and returns a function for its points."""

GRID_STEP = 2
"""Stride of the searched pixels, in x and in y."""
BAND_POSITIONS = 2**16
"""Number of positions described at once."""


def network_image_describer(model: Model, scales: int = 1, memory_mib: int = 1024) -> DescribeImage:
    """Describes images by a network in tiles, and their points by bilinear sampling.

    Args:
        model: the network.
        scales: number of scales of the descriptor stacks (`ucn.matching.scales`).
        memory_mib: bound on the activations of a forward pass.
    """

    def describe_image(image: Pixels) -> DescribePoints:
        levels = [
            (describe_tiled(model.network, scaled, memory_mib), scale_2)
            for scaled, scale_2 in image_levels(image, scales)
        ]

        def describe(points_N2: Floats) -> Tensor:
            return stacked(
                [
                    read_features(model, features_DHW, level_points(points_N2, scale_2))
                    for features_DHW, scale_2 in levels
                ]
            )

        return describe

    return describe_image


def search_image(
    queries_ND: Tensor,
    describe: DescribePoints,
    size: tuple[int, int],
    scales: int = 1,
    memory_mib: int = 256,
) -> tuple[Floats, Floats]:
    """Finds the most similar position of an image for each query, exactly.

    Args:
        queries_ND: unit descriptors, float32.
        describe: describes points of the searched image.
        size: (width, height) of the image, pixels.
        scales: number of scales of the descriptors.
        memory_mib: bound on the similarities held at once.

    Returns:
        positions_N2: positions on the grid of `GRID_STEP`; the first in raster order among equals.
        similarity_N: cosine similarity.
    """
    positions_N2 = np.zeros((len(queries_ND), 2), np.float32)
    similarity_N = np.full(len(queries_ND), -np.inf, np.float32)
    for grid, y in _bands(size):
        band_M2 = _positions(grid, y)
        index_N, found_N = (
            found.cpu().numpy()
            for found in nearest_at_any_scale(queries_ND, describe(band_M2), scales, memory_mib)
        )
        better_N = found_N > similarity_N
        positions_N2[better_N] = band_M2[index_N[better_N]]
        similarity_N[better_N] = found_N[better_N]
    return positions_N2, similarity_N


def refine_matches(
    queries_ND: Tensor,
    describe: DescribePoints,
    size: tuple[int, int],
    positions_N2: Floats,
    scales: int = 1,
) -> Floats:
    """Refines matches on the search grid to the maximum of the similarity.

    Like `ucn.matching.refinement.refine_positions`, for an image that is described in bands.

    Args:
        queries_ND, describe, size, scales: as in :func:`search_image`.
        positions_N2: positions found by :func:`search_image`.

    Returns:
        float32 [N, 2] pixels.
    """
    refined_N2 = positions_N2.copy()
    if not len(positions_N2):
        return refined_N2
    matches_ND = describe(positions_N2)
    queries_ND = moved_to_matches(queries_ND, matches_ND, scales)
    best_N = similarities(queries_ND, matches_ND)
    for axis in (0, 1):
        step_2 = GRID_STEP * np.eye(2, dtype=np.float32)[axis]
        inner_N1 = (positions_N2[:, [axis]] >= GRID_STEP) & (
            positions_N2[:, [axis]] + GRID_STEP <= size[axis] - 1
        )
        before_N, after_N = (
            similarities(queries_ND, describe(positions_N2 + way * step_2 * inner_N1))
            for way in (-1, 1)
        )
        refined_N2[:, axis] += GRID_STEP * parabola_tops(before_N, best_N, after_N).cpu().numpy()
    return refined_N2


def search_second(
    queries_ND: Tensor,
    describe: DescribePoints,
    size: tuple[int, int],
    best_N2: Floats,
    radius_px: float,
    scales: int = 1,
    memory_mib: int = 256,
) -> Floats:
    """Finds the largest similarity outside a radius around each query's best position.

    Args:
        queries_ND, describe, size, scales, memory_mib: as in :func:`search_image`.
        best_N2: positions found by :func:`search_image`.
        radius_px: radius of the excluded disc.

    Returns:
        Cosine similarity_N, float32; -inf if the radius covers the whole image.
    """
    similarity_N = np.full(len(queries_ND), -np.inf, np.float32)
    for grid, y in _bands(size):
        within_N2 = torch.from_numpy(best_N2 - np.array([0, y], np.float32)).to(queries_ND.device)
        band_MD = describe(_positions(grid, y))
        for moved_ND in relative_scales(queries_ND, scales):
            found = masked_search(moved_ND, band_MD, within_N2, grid, radius_px, None, memory_mib)
            similarity_N = np.maximum(similarity_N, found.outside_N.cpu().numpy())
    return similarity_N


def _bands(size: tuple[int, int]) -> Iterator[tuple[Grid, int]]:
    """Splits the search grid into bands: each band, and the y of its first row."""
    width, height = size
    columns, num_rows = -(-width // GRID_STEP), -(-height // GRID_STEP)
    step = max(1, BAND_POSITIONS // columns)
    for first in range(0, num_rows, step):
        yield Grid(min(step, num_rows - first), columns, GRID_STEP, 0), first * GRID_STEP


def _positions(grid: Grid, y: int) -> Floats:
    """Pixels of a band of the search grid: float32 [M, 2]."""
    shifted: Floats = grid_pixels(grid) + np.array([0, y], np.float32)
    return shifted
