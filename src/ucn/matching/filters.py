"""Match filters, each a pure function that returns a mask, and their precision-recall curves.

Reciprocity and stability are the "heuristic filters" of Open-UCN (README, section "Heuristic
Filtering Methods"; `util/visualization.py`). Open-UCN combines both in one test; here they are
separate.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.matching.descriptors import Floats

Mask = NDArray[np.bool_]

FILTERS = ("similarity", "ratio", "reciprocity", "stability")
"""Names of the filters, in the order in which they are applied."""


def forward_backward_error(points0_N2: Floats, back_N2: Floats) -> Floats:
    """Distance between each query and its match after searching back, pixels: float32 [N].

    Open-UCN calls a match reciprocal if it is less than 4 px.

    Args:
        points0_N2: query points in image 0.
        back_N2: points of image 0 found by searching back from the matches in image 1.

    Raises:
        ValueError: the shapes disagree.
    """
    if points0_N2.shape != back_N2.shape:
        raise ValueError(f"{back_N2.shape} ways back to {points0_N2.shape} points")
    distances_N: Floats = np.linalg.norm(back_N2 - points0_N2, axis=1).astype(np.float32)
    return distances_N


def shift_positions(
    positions1_N2: Floats, size: tuple[int, int], rng: np.random.Generator
) -> Floats:
    """Moves each position by one pixel in x and in y, with random signs.

    Open-UCN's stability test also moves along diagonals and stays inside the image.

    Args:
        positions1_N2: pixels in image 1.
        size: (width, height) of image 1; moved positions are clipped to its pixel centres.
        rng: source of the random signs.

    Raises:
        ValueError: the image has no pixels.
    """
    if min(size) < 1:
        raise ValueError(f"an image of size {size}")
    moves_N2 = 2 * rng.integers(0, 2, positions1_N2.shape) - 1
    last_2 = np.asarray(size) - 1
    moved_N2: Floats = np.clip(positions1_N2 + moves_N2, 0, last_2).astype(np.float32)
    return moved_N2


def unit_distances(similarity_N: NDArray[np.floating]) -> Floats:
    """Euclidean distances of unit descriptors from their cosines: sqrt(2 - 2 cos), float32 [N]."""
    squared_N = 2 - 2 * similarity_N.astype(np.float64)
    distances_N: Floats = np.sqrt(np.maximum(squared_N, 0)).astype(np.float32)
    return distances_N


def ratio_mask(
    nearest_N: NDArray[np.floating], second_N: NDArray[np.floating], ratio: float
) -> Mask:
    """Ratio test: keeps matches whose nearest descriptor is clearly nearer than the second.

    The nearest distance must be strictly less than ``ratio`` times the second, so two equal
    candidates never pass. Lowe, IJCV 2004.

    Args:
        nearest_N, second_N: descriptor distances. On a dense grid, exclude the neighbourhood of
            the nearest from the search for the second, since its descriptors are similar.
        ratio: in (0, 1]; Lowe uses 0.8.

    Raises:
        ValueError: the ratio is out of range, the shapes disagree, or a second distance is smaller
            than the nearest.
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"a ratio of {ratio}; it lies between 0 and 1")
    if nearest_N.shape != second_N.shape or not (nearest_N <= second_N).all():
        raise ValueError("the second distances are not those of second neighbours")
    return np.asarray(nearest_N < ratio * second_N)


def similarity_mask(similarity_N: NDArray[np.floating], least: float) -> Mask:
    """Keeps matches whose similarity is at least a threshold.

    Raises:
        ValueError: the threshold is NaN.
    """
    if np.isnan(least):
        raise ValueError("the threshold of similarity is undefined")
    return np.asarray(similarity_N >= least)


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall of keeping all matches with at least a given score.

    Attributes:
        scores_K: distinct scores in descending order.
        precision_K: percentage of the kept matches that are correct.
        recall_K: percentage of all correct matches that are kept; ends at 100.
    """

    scores_K: NDArray[np.float64]
    precision_K: NDArray[np.float64]
    recall_K: NDArray[np.float64]


def precision_recall(
    errors_N: NDArray[np.floating], scores_N: NDArray[np.floating], threshold_px: float
) -> PrecisionRecall:
    """Precision-recall curve of a filter, over all thresholds on its score.

    The score of a filter is the similarity, the negative forward-backward error (reciprocity,
    stability) or the negative ratio of distances. Matches of equal score are kept together.

    Args:
        errors_N: distances from the true positions, pixels.
        scores_N: larger for better matches; may be infinite.
        threshold_px: largest error of a correct match, pixels.

    Raises:
        ValueError: the shapes disagree, a value is NaN, or no match is correct, so that the recall
            is undefined.
    """
    if errors_N.shape != scores_N.shape or errors_N.ndim != 1:
        raise ValueError(f"{scores_N.shape} scores of {errors_N.shape} errors")
    if np.isnan(errors_N).any() or np.isnan(scores_N).any():
        raise ValueError("an error or a score is undefined")
    right_N = errors_N <= threshold_px
    if not right_N.any():
        raise ValueError(f"no match within {threshold_px} px: recall is no number")
    order_N = np.argsort(-scores_N, kind="stable")
    ordered_N = scores_N[order_N].astype(np.float64)
    last_K = np.append(np.flatnonzero(ordered_N[1:] != ordered_N[:-1]), len(ordered_N) - 1)
    right_K = np.cumsum(right_N[order_N])[last_K]
    return PrecisionRecall(
        ordered_N[last_K], 100.0 * right_K / (last_K + 1), 100.0 * right_K / right_N.sum()
    )
