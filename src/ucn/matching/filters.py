"""Filters of matches, each a pure function to a mask, and the curves that compare them.

Reciprocity and stability are the "heuristic filters" of Open-UCN (README, section "Heuristic
Filtering Methods"; `util/visualization.py`), where both are one test. Here each stands by itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.matching.descriptors import Floats

Mask = NDArray[np.bool_]


def forward_backward_error(points0_N2: Floats, back_N2: Floats) -> Floats:
    """How far from its start each search back lands, pixels: float32 [N].

    Args:
        points0_N2: the query points in image 0.
        back_N2: what their matches in image 1 are matched to in image 0.

    Raises:
        ValueError: shapes that disagree.
    """
    if points0_N2.shape != back_N2.shape:
        raise ValueError(f"{back_N2.shape} ways back to {points0_N2.shape} points")
    distances_N: Floats = np.linalg.norm(back_N2 - points0_N2, axis=1).astype(np.float32)
    return distances_N


def reciprocity_mask(points0_N2: Floats, back_N2: Floats, radius_px: float) -> Mask:
    """Keep matches whose search back lands within a radius of its start, the radius included.

    Open-UCN's radius is 4 px, excluded.

    Raises:
        ValueError: shapes that disagree, or a negative radius.
    """
    if not radius_px >= 0:
        raise ValueError(f"a radius of {radius_px} px")
    return np.asarray(forward_backward_error(points0_N2, back_N2) <= radius_px)


def shift_positions(
    positions1_N2: Floats, size: tuple[int, int], rng: np.random.Generator
) -> Floats:
    """Move each position by one pixel in x and one in y, the signs at random.

    Open-UCN's stability test moves along diagonals in this way, and keeps to the image.

    Args:
        positions1_N2: pixels in image 1.
        size: its width and height; moved positions are clipped to its pixels' centres.
        rng: draws the signs.

    Raises:
        ValueError: an image without pixels.
    """
    if min(size) < 1:
        raise ValueError(f"an image of size {size}")
    moves_N2 = 2 * rng.integers(0, 2, positions1_N2.shape) - 1
    last_2 = np.asarray(size) - 1
    moved_N2: Floats = np.clip(positions1_N2 + moves_N2, 0, last_2).astype(np.float32)
    return moved_N2


def unit_distances(similarity_N: NDArray[np.floating]) -> Floats:
    """Euclidean distance of unit descriptors from their cosine: sqrt(2 - 2 cos), float32 [N]."""
    squared_N = 2 - 2 * similarity_N.astype(np.float64)
    distances_N: Floats = np.sqrt(np.maximum(squared_N, 0)).astype(np.float32)
    return distances_N


def ratio_mask(
    nearest_N: NDArray[np.floating], second_N: NDArray[np.floating], ratio: float
) -> Mask:
    """Keep matches whose nearest descriptor is clearly nearer than the second (Lowe, IJCV 2004).

    Strictly nearer than ``ratio`` times the second, so that two equal candidates never pass.

    Args:
        nearest_N, second_N: distances of descriptors. On a dense grid the second has to lie outside
            the neighbourhood of the nearest, whose descriptors are alike.
        ratio: in (0, 1]; Lowe's is 0.8.

    Raises:
        ValueError: another ratio, shapes that disagree, or a second nearer than the nearest.
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"a ratio of {ratio}; it lies between 0 and 1")
    if nearest_N.shape != second_N.shape or not (nearest_N <= second_N).all():
        raise ValueError("the second distances are not those of second neighbours")
    return np.asarray(nearest_N < ratio * second_N)


def similarity_mask(similarity_N: NDArray[np.floating], least: float) -> Mask:
    """Keep matches whose similarity is at least a threshold.

    Raises:
        ValueError: the threshold is undefined.
    """
    if np.isnan(least):
        raise ValueError("the threshold of similarity is undefined")
    return np.asarray(similarity_N >= least)


@dataclass(frozen=True)
class PrecisionRecall:
    """What is left when all matches of at least a score are kept, from the highest score down.

    Attributes:
        scores_K: the distinct scores, falling.
        precision_K: percent of the kept matches that are right.
        recall_K: percent of all right matches that are kept; ends at 100.
    """

    scores_K: NDArray[np.float64]
    precision_K: NDArray[np.float64]
    recall_K: NDArray[np.float64]


def precision_recall(
    errors_N: NDArray[np.floating], scores_N: NDArray[np.floating], threshold_px: float
) -> PrecisionRecall:
    """Curve of a filter whose threshold runs over all its scores.

    Every filter is a score: the similarity itself, the negative way back (reciprocity, stability),
    the negative ratio of distances. Matches of equal scores are kept together.

    Args:
        errors_N: pixels from the truth; at most ``threshold_px`` is right.
        scores_N: larger for better matches; infinite ones are allowed.

    Raises:
        ValueError: shapes that disagree, undefined numbers, or no right match: recall is no number.
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
