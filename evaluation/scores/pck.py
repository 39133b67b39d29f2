"""Percentage of correct keypoints (PCK): percentage of matches within T pixels of the truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.matching.descriptors import Floats

Counts = NDArray[np.int64]

CURVE_THRESHOLDS = tuple(range(1, 51))
"""Thresholds T of PCK curves, pixels."""
CURVE_ALPHAS = tuple(step / 200 for step in range(1, 31))
"""Thresholds alpha of PCK curves of labelled keypoints."""
TABLE_ALPHA = 0.1
"""Alpha of the class tables of Choy et al. 2016, and of pictures of labelled keypoints."""
LENGTHS = {"side": "max(w, h)", "diagonal": "the diagonal", "box": "the box"}
"""Names of the lengths L of PCK at alpha, as metrics and as text."""
# Lengths of the papers on a dataset, by source of the shards; others use max(w, h).
_USUAL_LENGTHS = {"cub": "diagonal"}


@dataclass(frozen=True)
class Criterion:
    """The condition under which a match is correct.

    Attributes:
        threshold: largest error: T in pixels, or alpha.
        length: name of the length L that alpha is relative to; empty for pixels.
    """

    threshold: float
    length: str = ""

    @property
    def metric(self) -> str:
        """Name of the PCK metric, without its threshold."""
        return f"pck_{self.length}" if self.length else "pck"

    def __str__(self) -> str:
        unit = f"of {LENGTHS[self.length]}" if self.length else "px"
        return f"{self.threshold:g} {unit}"


def usual_length(source: str) -> str:
    """Name of the length L that the papers on a source of labelled keypoints use."""
    return _USUAL_LENGTHS.get(source, "side")


def match_errors(positions_N2: Floats, truth_N2: Floats) -> Floats:
    """Distance of each match from its true position, pixels: float32 [N].

    Infinite for a point without a match, whose position is NaN.
    """
    if positions_N2.shape != truth_N2.shape:
        raise ValueError(f"{positions_N2.shape} matches for {truth_N2.shape} true positions")
    errors_N: Floats = np.linalg.norm(positions_N2 - truth_N2, axis=1).astype(np.float32)
    errors_N[np.isnan(errors_N)] = np.inf
    return errors_N


def hit_counts(errors_N: NDArray[np.floating], thresholds: Sequence[float]) -> Counts:
    """Number of errors of at most T, for each threshold T: int64 [T].

    Args:
        errors_N: non-negative; infinite for a point without a match.
        thresholds: thresholds T, pixels.

    Raises:
        ValueError: an error is NaN, or a threshold is negative or not finite.
    """
    limits_T = np.asarray(thresholds, np.float64)
    if not ((limits_T >= 0) & np.isfinite(limits_T)).all():
        raise ValueError(f"PCK at thresholds {list(thresholds)}")
    if np.isnan(errors_N).any():
        raise ValueError("an error is undefined; a point without a match has an infinite one")
    return np.searchsorted(np.sort(errors_N), limits_T, side="right").astype(np.int64)


def pck(
    errors_N: NDArray[np.floating], thresholds: Sequence[float] = CURVE_THRESHOLDS
) -> NDArray[np.float64]:
    """PCK: percentage of errors of at most T, for each T (Choy et al. 2016, section 4.1).

    All points have equal weight. To pool several pairs, concatenate their errors first.

    Raises:
        ValueError: there are no points, or as in :func:`hit_counts`.
    """
    if not len(errors_N):
        raise ValueError("PCK of no points")
    percent: NDArray[np.float64] = 100.0 * hit_counts(errors_N, thresholds) / len(errors_N)
    return percent


def pck_over_pairs(
    errors_by_pair: Sequence[NDArray[np.floating]],
    thresholds: Sequence[float] = CURVE_THRESHOLDS,
) -> NDArray[np.float64]:
    """Mean over pairs of each pair's PCK, percent [T]. All pairs have equal weight.

    Raises:
        ValueError: there are no pairs, or a pair has no points.
    """
    if not len(errors_by_pair):
        raise ValueError("PCK of no pairs")
    percent: NDArray[np.float64] = np.mean([pck(e, thresholds) for e in errors_by_pair], axis=0)
    return percent


def average_endpoint_error(errors_N: NDArray[np.floating]) -> float:
    """Average endpoint error (AEPE), pixels, as in optical flow benchmarks.

    Raises:
        ValueError: there are no points, or an error is infinite or NaN. So the score is undefined
            for methods that leave points without a match.
    """
    if not len(errors_N):
        raise ValueError("average end-point error of no points")
    if not np.isfinite(errors_N).all():
        raise ValueError("average end-point error of points without a match")
    return float(np.mean(errors_N, dtype=np.float64))


def answered_percent(errors_N: NDArray[np.floating]) -> float:
    """Percentage of the points with a match, which are those of finite error.

    Raises:
        ValueError: there are no points.
    """
    if not len(errors_N):
        raise ValueError("answers of no points")
    return 100.0 * int(np.isfinite(errors_N).sum()) / len(errors_N)


def image_side(size: tuple[float, float]) -> float:
    """L = max(w, h) of an image or box, for PASCAL's PCK at alpha (Choy et al. 2016, 4.2)."""
    return _length(max(size), size)


def image_diagonal(size: tuple[float, float]) -> float:
    """L = sqrt(w^2 + h^2) of an image, for CUB's PCK at alpha (Choy et al. 2016, 4.2)."""
    return _length(float(np.hypot(*size)), size)


def image_length(length: str, size: tuple[float, float]) -> float:
    """The length L of an image by its name, ``side`` or ``diagonal``."""
    return {"side": image_side, "diagonal": image_diagonal}[length](size)


def relative_errors(errors_N: NDArray[np.floating], length_px: float) -> NDArray[np.float64]:
    """Errors divided by a length L of their pair: float64 [N].

    PCK at alpha is :func:`pck` of these errors with alpha as threshold, so an error of at most
    alpha * L is correct. Errors of pairs with different L can then be pooled and binned.

    Args:
        errors_N: errors in pixels.
        length_px: :func:`image_side` of the image or box, or :func:`image_diagonal`.

    Raises:
        ValueError: the length is not positive and finite.
    """
    if not 0 < length_px < np.inf:
        raise ValueError(f"errors relative to a length of {length_px} px")
    relative_N: NDArray[np.float64] = errors_N.astype(np.float64) / length_px
    return relative_N


def _length(length: float, size: tuple[float, float]) -> float:
    if not (min(size) > 0 and np.isfinite(length)):
        raise ValueError(f"no length of a width and height of {size}")
    return float(length)
