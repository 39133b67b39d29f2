"""Dense nearest-neighbour matching: each query against every position of a grid, exactly."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.config import MatchingConfig
from evaluation.descriptors import Describe, Floats, Pixels
from training.mining.nearest import nearest_cells


@dataclass(frozen=True)
class PointMatches:
    """What N query points of image 0 were matched to in image 1.

    Attributes:
        positions_N2: float32 pixels in image 1.
        similarity_N: float32 cosine of the two descriptors.
        reciprocal_N: bool, the search back from there lands where it started; all true where the
            search back is off.
    """

    positions_N2: Floats
    similarity_N: Floats
    reciprocal_N: NDArray[np.bool_]


def grid_points(width: int, height: int, step: int) -> Floats:
    """List every step-th pixel (x, y) of an image row by row, from (0, 0): float32 [M, 2]."""
    y, x = np.mgrid[0:height:step, 0:width:step]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def nearest_neighbours(
    queries_ND: Floats, references_MD: Floats, memory_mib: int = 256
) -> tuple[NDArray[np.int64], Floats]:
    """Find the nearest of M unit descriptors for each of N, exactly, in bounded memory.

    Args:
        queries_ND, references_MD: float32 rows of unit length (or zero); M > 0.
        memory_mib: bound on the similarities held at once.

    Returns:
        index_N (among equals the lowest) and cosine similarity_N.
    """
    if queries_ND.ndim != 2 or references_MD.ndim != 2 or not len(references_MD):
        raise ValueError(f"cannot search {queries_ND.shape} in {references_MD.shape}")
    index_N, similarity_N = nearest_cells(
        torch.from_numpy(queries_ND), torch.from_numpy(references_MD), memory_mib
    )
    return index_N.numpy(), similarity_N.numpy()


def match_points(
    image0: Pixels, image1: Pixels, queries_N2: Floats, describe: Describe, config: MatchingConfig
) -> PointMatches:
    """Match points of image 0 to the nearest descriptor among all grid positions of image 1.

    Args:
        image0, image1: uint8 [H, W] or [H, W, 3], of any two sizes.
        queries_N2: float32 pixels in image 0.
    """
    num_queries = len(queries_N2)
    searches_back = config.reciprocity_px > 0
    grid1_M2 = grid_points(image1.shape[1], image1.shape[0], config.grid_step)
    grid0_L2 = grid_points(image0.shape[1], image0.shape[0], config.grid_step)
    points0 = np.concatenate([queries_N2, grid0_L2]) if searches_back else queries_N2
    described0, described1_MD = describe(image0, points0), describe(image1, grid1_M2)
    index_N, similarity_N = nearest_neighbours(
        described0[:num_queries], described1_MD, config.memory_mib
    )
    reciprocal_N = np.ones(num_queries, bool)
    if searches_back:
        back_N, _ = nearest_neighbours(
            described1_MD[index_N], described0[num_queries:], config.memory_mib
        )
        way_N = np.linalg.norm(grid0_L2[back_N] - queries_N2, axis=1)
        reciprocal_N = way_N <= config.reciprocity_px
    return PointMatches(grid1_M2[index_N], similarity_N, reciprocal_N)
