import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.matching.filters import (
    forward_backward_error,
    precision_recall,
    ratio_mask,
    shift_positions,
    similarity_mask,
    unit_distances,
)

POINTS = np.float32([[10, 10], [50, 40], [0, 0]])
SIZE = (64, 48)


def test_forward_backward_error_is_a_distance() -> None:
    back = POINTS + np.float32([[3, 4], [3.1, 4], [0, 0]])
    assert forward_backward_error(POINTS, back).tolist() == pytest.approx(
        [5, np.hypot(3.1, 4), 0], abs=1e-5
    )


@given(st.integers(0, 2**32 - 1))
def test_shifts_are_diagonal_clipped_and_seeded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = rng.integers(0, SIZE, (60, 2)).astype(np.float32)
    shifted = shift_positions(positions, SIZE, np.random.default_rng(seed))
    again = shift_positions(positions, SIZE, np.random.default_rng(seed))
    np.testing.assert_array_equal(shifted, again)
    assert (shifted >= 0).all()
    assert (shifted <= np.array(SIZE) - 1).all()
    inner = ((positions > 0) & (positions < np.array(SIZE) - 1)).all(axis=1)
    assert (np.abs(shifted - positions)[inner] == 1).all()


def test_all_four_diagonals_come_up() -> None:
    moves = shift_positions(np.full((200, 2), 20), SIZE, np.random.default_rng(0)) - 20
    assert len(np.unique(moves, axis=0)) == 4


@given(st.integers(0, 2**32 - 1))
def test_unit_distances_are_those_of_the_vectors(seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(2, 20, 8))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    found = unit_distances(np.einsum("nd,nd->n", *rows))
    np.testing.assert_allclose(found, np.linalg.norm(rows[0] - rows[1], axis=1), rtol=1e-5)
    assert unit_distances(np.float32([1.0000001, -1])).tolist() == [0, 2]


def test_ratio_drops_equal_candidates() -> None:
    nearest, second = np.float32([0, 0.7, 0.8, 0.5]), np.float32([0, 1, 1, 0.5])
    assert ratio_mask(nearest, second, 0.8).tolist() == [False, True, False, False]
    assert ratio_mask(nearest, second, 1).tolist() == [False, True, True, False]


def test_similarity_includes_its_threshold() -> None:
    assert similarity_mask(np.array([0.4, 0.5, 0.6]), 0.5).tolist() == [False, True, True]


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(-3, 3)), min_size=1, max_size=40).filter(
        lambda rows: any(error <= 5 for error, _ in rows)
    )
)
def test_curve_against_every_mask_of_similarity(rows: list[tuple[float, int]]) -> None:
    errors, scores = np.array([e for e, _ in rows]), np.array([float(s) for _, s in rows])
    curve = precision_recall(errors, scores, 5)
    assert curve.scores_K.tolist() == sorted(set(scores.tolist()), reverse=True)
    total = sum(error <= 5 for error in errors)
    for score, precision, recall in zip(
        curve.scores_K, curve.precision_K, curve.recall_K, strict=True
    ):
        kept = similarity_mask(scores, score)
        right = sum(error <= 5 for error in errors[kept])
        assert precision == pytest.approx(100 * right / kept.sum())
        assert recall == pytest.approx(100 * right / total)
    assert curve.recall_K[-1] == 100


def test_infinite_scores_stand_at_the_ends() -> None:
    curve = precision_recall(np.array([0.0, 9, 0]), np.array([np.inf, -np.inf, 1]), 5)
    assert curve.precision_K.tolist() == [100, 100, pytest.approx(200 / 3)]


def test_degenerate_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="ways back"):
        forward_backward_error(POINTS, POINTS[:1])
    with pytest.raises(ValueError, match="size"):
        shift_positions(POINTS, (0, 5), np.random.default_rng(0))
    for ratio in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="ratio"):
            ratio_mask(np.ones(2), np.ones(2), ratio)
    with pytest.raises(ValueError, match="second"):
        ratio_mask(np.ones(2), np.zeros(2), 0.8)
    with pytest.raises(ValueError, match="undefined"):
        similarity_mask(np.ones(2), float("nan"))
    with pytest.raises(ValueError, match="recall"):
        precision_recall(np.full(3, 9.0), np.ones(3), 5)
    with pytest.raises(ValueError, match="scores"):
        precision_recall(np.ones(3), np.ones(2), 5)
    with pytest.raises(ValueError, match="undefined"):
        precision_recall(np.ones(2), np.array([1, np.nan]), 5)
