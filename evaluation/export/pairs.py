"""Matches of several pairs, whose images share one list of keypoints each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.evaluation.export.match import ImageMatches
from ucn.matching.descriptors import Floats

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class PairMatches:
    """What was found between two named photos.

    Attributes:
        names: of the two photos, as the user gives them; they differ.
        sizes: width and height of each, pixels.
        found: the matches, the best first.
    """

    names: tuple[str, str]
    sizes: tuple[tuple[int, int], tuple[int, int]]
    found: ImageMatches


def merge_keypoints(known_M2: Floats, points_N2: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Add points to the keypoints of an image, those with values that it has not yet.

    Args:
        known_M2: stay in their rows, repeated ones too.
        points_N2: float32 pixels.

    Returns:
        keypoints_K2: the known, then the new in the order of their first appearance; and the row of
        each point among them, rows_N.
    """
    stacked_S2 = np.concatenate([known_M2, points_N2]).astype(np.float32)
    _, first_U, unique_S = np.unique(stacked_S2, axis=0, return_index=True, return_inverse=True)
    num_known = len(known_M2)
    added = np.sort(first_U[first_U >= num_known])
    row_U = np.where(first_U < num_known, first_U, num_known + np.searchsorted(added, first_U))
    keypoints_K2: Floats = np.concatenate([known_M2, stacked_S2[added]]).astype(np.float32)
    return keypoints_K2, row_U[unique_S.reshape(-1)[num_known:]].astype(np.int64)


def unique_matches(rows0_N: Rows, rows1_N: Rows) -> Rows:
    """Keep the first match of each keypoint, on both sides: the numbers of those matches.

    Several points of image 0 can be matched to one position, which is one keypoint.
    """
    first0 = np.unique(rows0_N, return_index=True)[1]
    first1 = np.unique(rows1_N, return_index=True)[1]
    return np.intersect1d(first0, first1).astype(np.int64)
