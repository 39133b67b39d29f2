import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ucn.evaluation.scores.homography import (
    HOMOGRAPHY_ESTIMATORS,
    MMA_THRESHOLDS,
    corner_auc,
    corner_error,
    estimate_homography,
    mean_matching_accuracy,
    transfer_errors,
)

SIZE = (640, 480)
H_TRUE = np.array([[0.9, -0.2, 40], [0.1, 1.1, -25], [2e-4, -1e-4, 1]])


def exact_matches(count: int, seed: int) -> np.ndarray:
    """Matches under H_TRUE, mapped by OpenCV."""
    points0 = np.random.default_rng(seed).uniform((0, 0), SIZE, (count, 2))
    return np.hstack([points0, cv2.perspectiveTransform(points0[None], H_TRUE)[0]])


@given(st.integers(0, 2**32 - 1))
def test_transfer_errors_are_the_added_shifts(seed: int) -> None:
    matches = exact_matches(30, seed)
    shifts = np.random.default_rng(seed).normal(0, 5, (30, 2))
    matches[:, 2:] += shifts
    for scale in (1.0, -3.0):
        found = transfer_errors(matches, scale * H_TRUE)
        np.testing.assert_allclose(found, np.hypot(*shifts.T), atol=1e-8)


def test_points_beyond_the_horizon_are_wrong() -> None:
    H_1_0 = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    matches = np.array([[100.0, 5, 0, 0], [200, 5, -200, -5], [0, 5, 0, 5]])
    assert transfer_errors(matches, H_1_0).tolist() == [np.inf, np.inf, 0]


def test_matching_accuracy_is_a_mean_over_pairs_and_counts_empty_ones() -> None:
    pairs = [np.array([0.5, 2.5, 30, 30]), np.array([0.5]), np.zeros(0)]
    found = mean_matching_accuracy(pairs)
    expected = [
        100 * np.mean([np.mean(pair <= limit) if len(pair) else 0 for pair in pairs])
        for limit in range(1, 11)
    ]
    assert len(found) == len(MMA_THRESHOLDS) == 10
    np.testing.assert_allclose(found, expected)
    assert found[0] == pytest.approx(100 * (0.25 + 1) / 3)


@pytest.mark.parametrize(("estimator", "seed"), itertools.product(HOMOGRAPHY_ESTIMATORS, [0, 1]))
def test_exact_matches_give_the_homography(estimator: str, seed: int) -> None:
    estimate = estimate_homography(exact_matches(100, seed), estimator, 1.0, seed)
    assert corner_error(estimate, H_TRUE, SIZE) < 1e-3


@pytest.mark.parametrize("estimator", HOMOGRAPHY_ESTIMATORS)
def test_outliers_are_withstood_and_one_seed_gives_one_map(estimator: str) -> None:
    rng = np.random.default_rng(2)
    matches = exact_matches(300, 5)
    matches[:, 2:] += rng.normal(0, 0.5, (300, 2))
    matches[::3, 2:] = rng.uniform(0, 480, (100, 2))
    first, again = (estimate_homography(matches, estimator, 2.0, 3) for _ in range(2))
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first, again)
    assert corner_error(first, H_TRUE, SIZE) < 1


@pytest.mark.parametrize("estimator", HOMOGRAPHY_ESTIMATORS)
def test_degenerate_matches_are_failures_and_no_errors(estimator: str) -> None:
    line = np.repeat(np.arange(60.0)[:, None], 4, axis=1)
    for matches in (exact_matches(3, 0), np.zeros((0, 4)), np.full((60, 4), 50.0)):
        assert estimate_homography(matches, estimator, 1.0, 0) is None
    error = corner_error(estimate_homography(line, estimator, 1.0, 0), H_TRUE, SIZE)
    assert not np.isnan(error)


def test_corner_error_of_a_shift_and_of_a_scale() -> None:
    shift = np.array([[1.0, 0, 3], [0, 1, 4], [0, 0, 1]])
    assert corner_error(shift, np.eye(3), SIZE) == pytest.approx(5)
    assert corner_error(-2 * shift, np.eye(3), SIZE) == pytest.approx(5)
    # The outer corners are -0.5 and size - 0.5, so that doubling moves them by their own place.
    corners = itertools.product((-0.5, 639.5), (-0.5, 479.5))
    expected = np.mean([np.hypot(x, y) for x, y in corners])
    assert corner_error(np.diag([2.0, 2, 1]), np.eye(3), SIZE) == pytest.approx(expected)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_corner_error_against_opencv(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(3, 3))
    H_pred = H_TRUE + noise * [[1e-2, 1e-2, 5], [1e-2, 1e-2, 5], [1e-5, 1e-5, 0]]
    corners = np.array([[[-0.5, -0.5], [639.5, -0.5], [639.5, 479.5], [-0.5, 479.5]]])
    ends = (cv2.perspectiveTransform(corners, H)[0] for H in (H_pred, H_TRUE))
    expected = np.mean(np.linalg.norm(np.subtract(*ends), axis=1))
    assert corner_error(H_pred, H_TRUE, SIZE) == pytest.approx(expected)


def test_failures_count_as_failures() -> None:
    assert corner_error(None, H_TRUE, SIZE) == np.inf
    behind = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    assert corner_error(behind, H_TRUE, SIZE) == np.inf
    assert corner_auc([0.0, np.inf], 3) == 50
    # The recall rises to 1 at 1 px: (1 / 2 + 2) / 3.
    assert corner_auc([1.0], 3) == pytest.approx(100 * 2.5 / 3)


def test_inputs_that_are_none_are_refused() -> None:
    for matches in (np.zeros((3, 2)), np.zeros(4), np.full((1, 4), np.nan)):
        with pytest.raises(ValueError, match="matches"):
            transfer_errors(matches, H_TRUE)
    with pytest.raises(ValueError, match="no pairs"):
        mean_matching_accuracy([])
    behind = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    with pytest.raises(ValueError, match="horizon"):
        corner_error(H_TRUE, behind, SIZE)
