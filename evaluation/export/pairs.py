"""Matches of several pairs. Each image has one list of keypoints, shared by its pairs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ucn.evaluation.export.match import ImageMatches
from ucn.matching.descriptors import Floats

Names = tuple[str, str]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class PairMatches:
    """Matches of two named photos.

    Attributes:
        names: different names of the two photos.
        sizes: (width, height) of each, pixels.
        found: the matches, the best first.
    """

    names: Names
    sizes: tuple[tuple[int, int], tuple[int, int]]
    found: ImageMatches


def merge_keypoints(known_M2: Floats, points_N2: Floats, radius_px: float) -> tuple[Floats, Rows]:
    """Adds points to the keypoints of an image; a point near a keypoint becomes that keypoint.

    Tracks over several images need this: the end of a match in image 1 is rarely exactly where a
    match from image 1 to image 2 starts. ``hloc.match_dense`` merges keypoints for the same reason.

    Args:
        known_M2: existing keypoints, which keep their rows (including duplicates).
        points_N2: float32 pixels.
        radius_px: largest distance to the keypoint; 0 merges equal points only.

    Returns:
        keypoints_K2: existing keypoints, then new ones in order of first appearance.
        rows_N: row of each point in ``keypoints_K2``.
    """
    known_M2 = known_M2.astype(np.float32)
    points_N2 = points_N2.astype(np.float32)
    distance_N, rows_N = cKDTree(known_M2).query(points_N2) if len(known_M2) else (np.inf, 0)
    new_N = np.broadcast_to(distance_N > radius_px, len(points_N2))
    rows_N = np.array(np.broadcast_to(rows_N, len(points_N2)), np.int64)
    _, first_U, unique_A = np.unique(
        points_N2[new_N], axis=0, return_index=True, return_inverse=True
    )
    added = np.sort(first_U)
    row_U = len(known_M2) + np.searchsorted(added, first_U)
    rows_N[new_N] = row_U[unique_A.reshape(-1)]
    return np.concatenate([known_M2, points_N2[new_N][added]]), rows_N


def unique_matches(rows0_N: Rows, rows1_N: Rows) -> Rows:
    """Indices of the matches that are the first of their keypoint in both images.

    Several points of image 0 can match the same position in image 1, which is one keypoint.
    """
    first0 = np.unique(rows0_N, return_index=True)[1]
    first1 = np.unique(rows1_N, return_index=True)[1]
    return np.intersect1d(first0, first1).astype(np.int64)
