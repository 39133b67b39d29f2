"""Matches of several pairs. Each image has one list of keypoints, shared by its pairs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def merge_keypoints(known_M2: Floats, points_N2: Floats) -> tuple[Floats, Rows]:
    """Adds points to the keypoints of an image, without duplicates.

    Args:
        known_M2: existing keypoints, which keep their rows (including duplicates).
        points_N2: float32 pixels.

    Returns:
        keypoints_K2: existing keypoints, then new ones in order of first appearance.
        rows_N: row of each point in ``keypoints_K2``.
    """
    stacked_S2 = np.concatenate([known_M2, points_N2]).astype(np.float32)
    _, first_U, unique_S = np.unique(stacked_S2, axis=0, return_index=True, return_inverse=True)
    num_known = len(known_M2)
    added = np.sort(first_U[first_U >= num_known])
    row_U = np.where(first_U < num_known, first_U, num_known + np.searchsorted(added, first_U))
    keypoints_K2: Floats = np.concatenate([known_M2, stacked_S2[added]]).astype(np.float32)
    return keypoints_K2, row_U[unique_S.reshape(-1)[num_known:]].astype(np.int64)


def unique_matches(rows0_N: Rows, rows1_N: Rows) -> Rows:
    """Indices of the matches that are the first of their keypoint in both images.

    Several points of image 0 can match the same position in image 1, which is one keypoint.
    """
    first0 = np.unique(rows0_N, return_index=True)[1]
    first1 = np.unique(rows1_N, return_index=True)[1]
    return np.intersect1d(first0, first1).astype(np.int64)
