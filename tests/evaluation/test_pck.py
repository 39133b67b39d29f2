import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ucn.evaluation.scores.pck import (
    CURVE_THRESHOLDS,
    Criterion,
    answered_percent,
    average_endpoint_error,
    hit_counts,
    image_diagonal,
    image_length,
    image_side,
    match_errors,
    pck,
    pck_over_pairs,
    relative_errors,
    usual_length,
)


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


@given(
    st.lists(
        arrays(np.float32, st.integers(1, 20), elements=st.floats(0, 60, width=32)),
        min_size=1,
        max_size=6,
    )
)
def test_both_poolings_against_plain_loops(pairs: list[np.ndarray]) -> None:
    over_pairs = pck_over_pairs(pairs, [3, 10])
    for column, limit in enumerate((3, 10)):
        shares = [sum(float(e) <= limit for e in pair) / len(pair) for pair in pairs]
        assert over_pairs[column] == pytest.approx(100 * sum(shares) / len(shares))
    hits = sum(hit_counts(pair, [3, 10]) for pair in pairs)
    points = sum(len(pair) for pair in pairs)
    np.testing.assert_allclose(100 * hits / points, pck(np.concatenate(pairs), [3, 10]))


def test_poolings_differ_as_they_should() -> None:
    pairs = [np.full(30, 0.5), np.full(10, 99.0)]
    assert pck_over_pairs(pairs, [1]).tolist() == [50]
    assert pck(np.concatenate(pairs), [1]).tolist() == [75]


def test_uniform_noise_in_a_square_has_the_area_of_the_disc() -> None:
    # Guesses uniform in a W x W square about the truth: PCK@T is pi T^2 / W^2 while T <= W / 2.
    side, count = 100.0, 40_000
    guesses = np.random.default_rng(0).uniform(-side / 2, side / 2, (count, 2)).astype(np.float32)
    errors = match_errors(guesses, np.zeros_like(guesses))
    limits = np.array([5, 10, 25, 50])
    expected = np.pi * limits**2 / side**2
    sigma = np.sqrt(expected * (1 - expected) / count)
    assert (np.abs(pck(errors, limits.tolist()) / 100 - expected) < 4.5 * sigma).all()
    # The mean distance from the centre of a square of side a: a (sqrt 2 + ln(1 + sqrt 2)) / 6.
    mean = side * (np.sqrt(2) + np.log(1 + np.sqrt(2))) / 6
    assert average_endpoint_error(errors) == pytest.approx(mean, rel=5e-3)


def test_endpoint_error_of_a_known_shift() -> None:
    points = np.arange(20, dtype=np.float32).reshape(10, 2)
    assert average_endpoint_error(match_errors(points + np.float32([3, 4]), points)) == 5


def test_a_point_without_a_match_is_wrong_and_has_no_mean_error() -> None:
    errors = np.array([0.0, np.inf])
    assert pck(errors, [50]).tolist() == [50]
    with pytest.raises(ValueError, match="without a match"):
        average_endpoint_error(errors)


def test_a_missing_match_has_an_infinite_error_and_is_no_answer() -> None:
    found = np.float32([[3, 4], [np.nan, np.nan], [0, np.nan]])
    errors = match_errors(found, np.zeros_like(found))
    assert errors.tolist() == [5, np.inf, np.inf]
    assert answered_percent(errors) == pytest.approx(100 / 3)
    with pytest.raises(ValueError, match="no points"):
        answered_percent(np.zeros(0))


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_alpha_thresholds_include_exact_shares(width: int, height: int) -> None:
    side = image_side((width, height))
    assert side == max(width, height)
    exact = np.array([side / 10, side / 10 * 1.001])
    assert pck(relative_errors(exact, side), [0.1]).tolist() == [50]


def test_lengths_of_the_paper() -> None:
    assert image_side((500, 375)) == 500
    assert image_diagonal((300, 400)) == 500
    box_w_h = (80.0, 40.0)
    errors = np.float32([8.0, 8.06, 4.0])
    assert pck(relative_errors(errors, image_side(box_w_h)), [0.05, 0.1]).tolist() == [
        pytest.approx(100 / 3),
        pytest.approx(200 / 3),
    ]


@pytest.mark.parametrize(
    ("source", "length", "text"),
    [
        ("pascal", 400, "0.1 of max(w, h)"),
        ("cub", 500, "0.1 of the diagonal"),
        ("package.module:Config", 400, "0.1 of max(w, h)"),
    ],
)
def test_length_follows_the_papers_on_a_dataset(source: str, length: float, text: str) -> None:
    name = usual_length(source)
    assert image_length(name, (300, 400)) == length
    assert str(Criterion(0.1, name)) == text
    assert Criterion(0.1, name).metric == f"pck_{name}"


@pytest.mark.parametrize("length", [0.0, -1.0, float("nan"), float("inf")])
def test_no_length_is_refused(length: float) -> None:
    with pytest.raises(ValueError, match="length"):
        relative_errors(np.ones(2), length)
    with pytest.raises(ValueError, match="length"):
        image_diagonal((length, 10.0))


def test_undefined_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="undefined"):
        pck(np.array([1.0, np.nan]), [1])
    for limits in ([-1.0], [np.nan], [np.inf]):
        with pytest.raises(ValueError, match="thresholds"):
            pck(np.ones(2), limits)
    with pytest.raises(ValueError, match="no pairs"):
        pck_over_pairs([], [1])
    with pytest.raises(ValueError, match="no points"):
        pck_over_pairs([np.ones(2), np.ones(0)], [1])
    with pytest.raises(ValueError, match="no points"):
        average_endpoint_error(np.ones(0))
