"""Percentage of correct keypoints: how many matches lie within T pixels of the truth."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.descriptors import Floats

CURVE_THRESHOLDS = tuple(range(1, 51))
"""Pixels T at which PCK curves are drawn."""


def match_errors(positions_N2: Floats, truth_N2: Floats) -> Floats:
    """Distance in pixels of each match from its true position: float32 [N]."""
    if positions_N2.shape != truth_N2.shape:
        raise ValueError(f"{positions_N2.shape} matches for {truth_N2.shape} true positions")
    errors_N: Floats = np.linalg.norm(positions_N2 - truth_N2, axis=1).astype(np.float32)
    return errors_N


def pck(errors_N: Floats, thresholds: Sequence[float]) -> NDArray[np.float64]:
    """Percentage of errors of at most T, for each threshold T (Choy et al. 2016, section 4.1).

    Points count alike, whichever pair they come from: pool the errors of several pairs first.

    Raises:
        ValueError: there are no points; a percentage of nothing is no number.
    """
    if not len(errors_N):
        raise ValueError("PCK of no points")
    within_NT = errors_N[:, None] <= np.asarray(thresholds, np.float64)
    percent: NDArray[np.float64] = 100.0 * within_NT.mean(axis=0)
    return percent
