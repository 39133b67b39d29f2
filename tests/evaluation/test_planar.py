"""One pair of a plane: mutual matches against a loop, and figures in closed form."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.evaluation.scores.estimators import HOMOGRAPHY_ESTIMATORS
from ucn.evaluation.scores.homography import mean_matching_accuracy
from ucn.evaluation.scores.planar import PlanarErrors, mutual_matches, planar_errors

SIZE = (640, 480)
H_TRUE = np.array([[0.9, -0.2, 40], [0.1, 1.1, -25], [2e-4, -1e-4, 1]])


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def keypoints(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of image 0 and their descriptors, all different."""
    rng = np.random.default_rng(seed)
    points = rng.uniform((0, 0), SIZE, (count, 2)).astype(np.float32)
    return points, unit(rng.standard_normal((count, 32)))


def figures(
    points0: np.ndarray,
    points1: np.ndarray,
    described0: np.ndarray,
    described1: np.ndarray,
    H_1_0: np.ndarray,
) -> PlanarErrors:
    """By all estimators, with two seeds."""
    matches = mutual_matches(points0, points1, described0, described1)
    return planar_errors(matches, H_1_0, SIZE, tuple(HOMOGRAPHY_ESTIMATORS), 3.0, (0, 1))


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_mutual_matches_against_a_loop(count0: int, count1: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    described0, described1 = (unit(rng.standard_normal((n, 3))) for n in (count0, count1))
    points0, points1 = (rng.random((n, 2)).astype(np.float32) for n in (count0, count1))
    found = mutual_matches(points0, points1, described0, described1)
    apart = np.linalg.norm(described0[:, None].astype(float) - described1[None], axis=2)
    expected = [
        [*points0[i], *points1[j]]
        for i in range(count0)
        for j in range(count1)
        if apart[i, j] <= apart[i].min() and apart[i, j] <= apart[:, j].min()
    ]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.reshape(expected, (-1, 4)).astype(np.float32))


def test_an_image_with_itself_has_no_errors() -> None:
    points, described = keypoints(200, 0)
    found = figures(points, points, described, described, np.eye(3))
    np.testing.assert_array_equal(found.transfer_errors_N, np.zeros(200))
    assert found.corner_errors.keys() == HOMOGRAPHY_ESTIMATORS.keys()
    for errors in found.corner_errors.values():
        assert len(errors) == 2
        assert max(errors) < 1e-6


def test_exact_descriptors_give_the_known_homography() -> None:
    points0, described = keypoints(300, 1)
    order = np.random.default_rng(2).permutation(300)
    # Rounding to float32 moves the points of image 1 by up to 2^-15 px.
    points1 = cv2.perspectiveTransform(points0[None].astype(float), H_TRUE)[0][order]
    points1 = points1.astype(np.float32)
    found = figures(points0, points1, described, described[order], H_TRUE)
    assert len(found.transfer_errors_N) == 300
    assert mean_matching_accuracy([found.transfer_errors_N]).tolist() == [100] * 10
    for errors in found.corner_errors.values():
        assert max(errors) < 1e-3


def test_whole_pixels_give_the_homography_to_rounding() -> None:
    """A map that takes whole pixels to whole pixels: nothing is rounded."""
    H_1_0 = np.array([[0.0, -1, 479], [1, 0, 20], [0, 0, 1]])
    rng = np.random.default_rng(4)
    points0 = np.rint(rng.uniform((0, 0), SIZE, (150, 2))).astype(np.float32)
    points0 = np.unique(points0, axis=0)
    described = unit(rng.standard_normal((len(points0), 32)))
    points1 = np.column_stack([479 - points0[:, 1], points0[:, 0] + 20]).astype(np.float32)
    found = figures(points0, points1, described, described, H_1_0)
    assert found.transfer_errors_N.max() == 0
    for errors in found.corner_errors.values():
        assert max(errors) < 1e-6


def test_errors_are_those_of_the_matches() -> None:
    points0, described = keypoints(100, 5)
    shifts = np.random.default_rng(6).normal(0, 2, (100, 2)).astype(np.float32)
    found = figures(points0, points0 + shifts, described, described, np.eye(3))
    np.testing.assert_allclose(found.transfer_errors_N, np.hypot(*shifts.T), atol=1e-4)
    for errors in found.corner_errors.values():
        assert 0 < max(errors) < 5


@pytest.mark.parametrize(("count0", "count1"), [(0, 20), (20, 0), (0, 0), (3, 3)])
def test_too_few_keypoints_are_failures(count0: int, count1: int) -> None:
    points, described = keypoints(20, 7)
    found = figures(
        points[:count0], points[:count1], described[:count0], described[:count1], np.eye(3)
    )
    assert len(found.transfer_errors_N) == min(count0, count1)
    assert set(found.corner_errors.values()) == {(np.inf, np.inf)}


def test_points_without_their_descriptors_are_refused() -> None:
    points, described = keypoints(5, 8)
    with pytest.raises(ValueError, match="descriptors"):
        mutual_matches(points, points, described[:4], described)
