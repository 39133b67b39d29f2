import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.evaluation.scores.recall import area_under_recall, mean_recall

ERRORS = st.lists(st.floats(0, 180), min_size=1, max_size=30)


def sum_of_trapezia(errors: list[float], threshold: float) -> float:
    """The area below the segments, one trapezium after the other."""
    ordered = sorted(errors)
    x = [0.0, *ordered]
    y = [i / len(errors) for i in range(len(errors) + 1)]
    below = [(a, b) for a, b in zip(x, y, strict=True) if a < threshold]
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(below))
    return 100 * (area + (threshold - below[-1][0]) * below[-1][1]) / threshold


@given(ERRORS, st.sampled_from([1, 5, 10, 20]))
def test_area_against_the_sum_of_trapezia(errors: list[float], threshold: float) -> None:
    expected = sum_of_trapezia(errors, threshold)
    assert area_under_recall(errors, threshold) == pytest.approx(expected, abs=1e-9)


@given(ERRORS, st.sampled_from([5, 10, 20]))
def test_mean_recall_against_the_histogram_of_the_field(errors: list[float], limit: int) -> None:
    # The published code: a histogram of 5-degree bins, cumulated, and the mean of its first ones.
    counts, _ = np.histogram(errors, np.arange(7) * 5)
    recalls = np.cumsum(counts) / len(errors)
    expected = 100 * recalls[: limit // 5].mean()
    assert mean_recall(errors, limit, 5) == pytest.approx(expected)


def test_a_failure_lowers_both_and_is_never_dropped() -> None:
    for failure in (180.0, np.inf):
        assert area_under_recall([0.0, failure], 5) == 50
        assert mean_recall([0.0, failure], 20, 5) == 50


def test_an_error_counts_from_the_first_larger_step() -> None:
    assert mean_recall([5.0], 10, 5) == 50
    assert mean_recall([4.999], 10, 5) == 100


@pytest.mark.parametrize("errors", [[], [-1.0], [float("nan")]])
def test_errors_that_are_none_are_refused(errors: list[float]) -> None:
    with pytest.raises(ValueError, match="error"):
        area_under_recall(errors, 5)
    with pytest.raises(ValueError, match="error"):
        mean_recall(errors, 5, 5)


def test_thresholds_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        area_under_recall([1.0], 0)
    for threshold, step in ((7, 5), (0, 5), (5, 0), (2, 5)):
        with pytest.raises(ValueError, match="divide"):
            mean_recall([1.0], threshold, step)
