"""Matches points of a pair: by the dense matcher, or by a method of its own."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ucn.evaluation.config import MatchingConfig
from ucn.matching.descriptors import Describe, Floats, Match, Pixels
from ucn.matching.features import Dense, Features, Grid
from ucn.matching.filters import forward_backward_error
from ucn.matching.matcher import backward_errors, find
from ucn.matching.scales import DescribeMap

Extract = Callable[[Pixels], Features]
"""Describes an image densely."""


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


def grid_points(width: int, height: int, step: int) -> Floats:
    """Every step-th pixel (x, y) of an image row by row, from (0, 0): float32 [M, 2]."""
    y, x = np.mgrid[0:height:step, 0:width:step]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def dense_descriptor(describe: Describe, step: int, device: str = "cpu") -> DescribeMap:
    """Describes an image at every ``step``-th pixel by a descriptor of points."""

    def describe_map(image: Pixels) -> Dense:
        height, width = image.shape[:2]
        grid = Grid(-(-height // step), -(-width // step), step, 0)
        rows_MD = torch.from_numpy(describe(image, grid_points(width, height, step)))
        map_HWD = rows_MD.view(grid.height, grid.width, -1).to(device)
        return Dense(map_HWD.permute(2, 0, 1), grid)

    return describe_map


def match_features(
    features0: Features,
    features1: Features,
    queries_N2: Floats,
    config: MatchingConfig,
) -> PointMatches:
    """Matches points of image 0 densely to image 1.

    Args:
        features0, features1: the described images.
        queries_N2: float32 pixels in image 0, N > 0.
        config: matching options.
    """
    positions_N2, similarity_N = find(
        features0.read(queries_N2),
        features1,
        step_px=config.grid_step,
        subpixel=config.subpixel,
        memory_mib=config.memory_mib,
    )
    way_back_N = np.zeros(len(queries_N2), np.float32)
    if config.reciprocity_px > 0:
        way_back_N = search_back(features0, queries_N2, features1, positions_N2, config)
    return PointMatches(positions_N2, similarity_N, way_back_N, way_back_N <= config.reciprocity_px)


def search_back(
    features0: Features,
    queries_N2: Floats,
    features1: Features,
    positions_N2: Floats,
    config: MatchingConfig,
) -> Floats:
    """Forward-backward errors of matches, pixels: float32 [N]."""
    return backward_errors(
        queries_N2,
        features0,
        positions_N2,
        features1,
        step_px=config.grid_step,
        memory_mib=config.memory_mib,
    )


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
