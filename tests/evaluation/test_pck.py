import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evaluation.pck import CURVE_THRESHOLDS, match_errors, pck


def test_identity_is_hundred() -> None:
    points = np.random.default_rng(0).uniform(0, 500, (40, 2)).astype(np.float32)
    assert (pck(match_errors(points, points), CURVE_THRESHOLDS) == 100).all()


def test_known_shift_is_a_step_that_includes_its_threshold() -> None:
    points = np.arange(20, dtype=np.float32).reshape(10, 2)
    errors = match_errors(points + np.float32([3, 4]), points)
    assert pck(errors, [4.99, 5, 6]).tolist() == [0, 100, 100]


def test_points_count_alike_whichever_pair_they_come_from() -> None:
    pooled = np.concatenate([np.full(30, 0.5), np.full(10, 99.0)]).astype(np.float32)
    assert pck(pooled, [1, 10]).tolist() == [75, 75]


def test_no_points_is_refused() -> None:
    with pytest.raises(ValueError, match="no points"):
        pck(np.zeros(0, np.float32), [1])


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="true positions"):
        match_errors(np.zeros((3, 2), np.float32), np.zeros((1, 2), np.float32))


@given(arrays(np.float32, st.integers(1, 60), elements=st.floats(0, 100, width=32)))
def test_curve_counts_and_never_falls(errors: np.ndarray) -> None:
    curve = pck(errors, CURVE_THRESHOLDS)
    counted = [100 * sum(e <= t for e in errors.tolist()) / len(errors) for t in CURVE_THRESHOLDS]
    np.testing.assert_allclose(curve, counted)
    assert (np.diff(curve) >= 0).all()
