"""Recall curves: percentage of pairs with an error below a threshold, their area and mean.

Each pair has one error, in any unit (degrees of a pose, pixels of a homography's corners). Pairs
without an estimate are included with the largest possible error, or infinity.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Errors = Sequence[float] | NDArray[np.floating]
"""One error per pair."""


def sorted_errors(errors: Errors) -> NDArray[np.float64]:
    """Validates and sorts the errors.

    Raises:
        ValueError: there are no errors, or an error is negative or NaN.
    """
    ordered = np.sort(np.asarray(errors, np.float64))
    if not len(ordered):
        raise ValueError("recall of no errors")
    if not (ordered >= 0).all():
        raise ValueError("an error is negative or undefined")
    return ordered


def area_under_recall(errors: Errors, threshold: float) -> float:
    """Area under the recall curve of errors up to a threshold, in percent (AUC).

    The curve connects (0, 0) and (error_i, i / n) by straight lines. It is constant from the last
    error below the threshold to the threshold. As in SuperGlue (Sarlin et al., CVPR 2020).

    Args:
        errors: one error per pair; infinite for a failure.
        threshold: positive, in the unit of the errors.

    Raises:
        ValueError: there are no errors, an error is negative or NaN, or the threshold is not
            positive.
    """
    ordered = sorted_errors(errors)
    if not threshold > 0:
        raise ValueError(f"area under the curve up to {threshold}; it must be positive")
    recall = np.arange(1, len(ordered) + 1) / len(ordered)
    below = int(np.searchsorted(ordered, threshold))
    x = np.concatenate([[0.0], ordered[:below], [threshold]])
    y = np.concatenate([[0.0], recall[:below], [recall[below - 1] if below else 0.0]])
    return float(100 * np.trapezoid(y, x) / threshold)


def mean_recall(errors: Errors, threshold: float, step: float) -> float:
    """Mean of the recall at step, 2 step, ..., threshold, in percent (mAP).

    The recall at a step counts errors that are strictly smaller.

    Args:
        errors: one error per pair; infinite for a failure.
        threshold: a positive multiple of ``step``, in the unit of the errors.
        step: distance between the averaged thresholds.

    Raises:
        ValueError: there are no errors, an error is negative or NaN, or the threshold is not a
            multiple of ``step``.
    """
    ordered = sorted_errors(errors)
    count = round(threshold / step) if step > 0 else 0
    if count < 1 or not np.isclose(count * step, threshold):
        raise ValueError(f"steps of {step} do not divide {threshold}")
    steps = step * np.arange(1, count + 1)
    return float(100 * np.searchsorted(ordered, steps, side="left").mean() / len(ordered))
