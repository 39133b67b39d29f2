"""Recall of errors: the share of pairs whose error stays below a threshold, and its means.

One error a pair, in any unit (degrees of a pose, pixels of a homography's corners). A pair without
an estimate has its worst error, infinite if there is none, and is never left out.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Errors = Sequence[float] | NDArray[np.floating]
"""One number a pair."""


def sorted_errors(errors: Errors) -> NDArray[np.float64]:
    """Check one error a pair and sort them.

    Raises:
        ValueError: there is none, or one is negative or undefined.
    """
    ordered = np.sort(np.asarray(errors, np.float64))
    if not len(ordered):
        raise ValueError("recall of no errors")
    if not (ordered >= 0).all():
        raise ValueError("an error is negative or undefined")
    return ordered


def area_under_recall(errors: Errors, threshold: float) -> float:
    """Area under the recall curve of errors up to a threshold, in percent (AUC).

    The curve joins (0, 0) and (error_i, i / n) by straight lines and runs level from the last error
    below the threshold to the threshold, as in SuperGlue (Sarlin et al., CVPR 2020).

    Args:
        errors: one a pair; infinite for a failure.
        threshold: positive, in their unit.

    Raises:
        ValueError: no errors, a negative or undefined one, or a threshold that is not positive.
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

    An error counts from the first step that is strictly larger.

    Args:
        errors: one a pair; infinite for a failure.
        threshold: a positive whole multiple of ``step``, in the unit of the errors.

    Raises:
        ValueError: no errors, a negative or undefined one, or no such multiple.
    """
    ordered = sorted_errors(errors)
    count = round(threshold / step) if step > 0 else 0
    if count < 1 or not np.isclose(count * step, threshold):
        raise ValueError(f"steps of {step} do not divide {threshold}")
    steps = step * np.arange(1, count + 1)
    return float(100 * np.searchsorted(ordered, steps, side="left").mean() / len(ordered))
