import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ucn.evaluation.scores import bootstrap
from ucn.evaluation.scores.bootstrap import ratio_interval, resampled_pairs
from ucn.evaluation.scores.pck import hit_counts, pck


def random_pairs(seed: int, pairs: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.exponential(rng.uniform(1, 20), rng.integers(1, 40)) for _ in range(pairs)]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 12))
def test_pooled_pck_against_pooling_the_drawn_points(seed: int, pairs: int) -> None:
    errors = random_pairs(seed, pairs)
    hits = np.stack([hit_counts(one, [3, 10]) for one in errors])
    counts = np.array([len(one) for one in errors])
    found = 100 * ratio_interval(hits, counts, seed=seed, draws=50, confidence=0.9)
    figures = [
        pck(np.concatenate([errors[index] for index in drawn]), [3, 10])
        for block in resampled_pairs(pairs, 50, seed)
        for drawn in block
    ]
    np.testing.assert_allclose(found, np.percentile(figures, [5, 95], axis=0).T)


def test_mean_of_normal_values_has_the_interval_of_its_standard_error() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = ratio_interval(values[:, None], np.ones(400), seed=0, draws=4000)[0]
    half = 1.96 * values.std() / 20
    assert [low, high] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.02)


def test_whole_pairs_are_drawn() -> None:
    # Two pairs, one all right, one all wrong: a quarter of the draws give 0 and a quarter 100.
    hits, counts = np.array([[1000], [0]]), np.array([1000, 1000])
    assert ratio_interval(hits, counts, seed=0).tolist() == [[0, 1]]


def test_seeded_whatever_is_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hits, counts = np.arange(10)[:, None], np.arange(10, 20)
    whole = ratio_interval(hits, counts, seed=7)
    other = ratio_interval(hits, counts, seed=8)
    monkeypatch.setattr(bootstrap, "_HELD", 33)
    np.testing.assert_array_equal(ratio_interval(hits, counts, seed=7), whole)
    assert (other != whole).any()


def test_equal_pairs_leave_no_doubt() -> None:
    found = ratio_interval(np.full((6, 2), 3), np.full(6, 4), seed=0)
    assert found.tolist() == [[0.75, 0.75]] * 2


def test_faults_are_refused() -> None:
    ones = np.ones((3, 1))
    with pytest.raises(ValueError, match="over counts"):
        ratio_interval(ones, np.ones(2), seed=0)
    for counts in (np.zeros(3), np.array([1, np.nan, 1])):
        with pytest.raises(ValueError, match="positive"):
            ratio_interval(ones, counts, seed=0)
    with pytest.raises(ValueError, match="finite"):
        ratio_interval(np.full((3, 1), np.nan), np.ones(3), seed=0)
    with pytest.raises(ValueError, match="draws"):
        ratio_interval(np.ones((0, 1)), np.ones(0), seed=0)
    with pytest.raises(ValueError, match="draws"):
        ratio_interval(ones, np.ones(3), seed=0, draws=0)
    for confidence in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="confidence"):
            ratio_interval(ones, np.ones(3), seed=0, confidence=confidence)
