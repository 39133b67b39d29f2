import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.evaluation.scores.patch_verification import describe_patches, fpr95, patch_similarities


def brute_force(scores: list[int], same: list[bool]) -> float:
    """Try every score as the threshold, from the strictest, by counting."""
    positives = sum(same)
    for threshold in sorted(set(scores), reverse=True):
        accepted = [label for score, label in zip(scores, same, strict=True) if score >= threshold]
        if 100 * sum(accepted) >= 95 * positives:
            return 100 * (len(accepted) - sum(accepted)) / (len(same) - positives)
    raise AssertionError


@given(
    st.lists(st.tuples(st.integers(-8, 8), st.booleans()), min_size=2, max_size=120).filter(
        lambda pairs: len({same for _, same in pairs}) == 2
    )
)
def test_against_every_threshold_with_many_ties(pairs: list[tuple[int, bool]]) -> None:
    scores, same = zip(*pairs, strict=True)
    found = fpr95(np.array(scores, np.float32), np.array(same))
    assert found == pytest.approx(brute_force(list(scores), list(same)))


def test_nineteen_of_twenty_are_enough() -> None:
    scores = np.concatenate([np.arange(20.0) + 100, [99.5, 100.5, 200]])
    same = np.arange(23) < 20
    # The threshold is 101, the 19th highest of the matching scores.
    assert fpr95(scores, same) == pytest.approx(100 / 3)


def test_extremes() -> None:
    same = np.arange(40) < 20
    assert fpr95(same.astype(np.float64), same) == 0
    assert fpr95(1.0 - same, same) == 100
    assert fpr95(np.zeros(40), same) == 100


def test_gaussian_scores_have_their_closed_form() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(2, 1, 200_000), rng.normal(0, 1, 200_000)])
    # The threshold is 2 - 1.6449; the share of standard normal values above it is 0.36124.
    found = fpr95(scores, np.arange(400_000) < 200_000)
    assert found == pytest.approx(36.124, abs=0.6)


@pytest.mark.parametrize(
    ("scores", "same"),
    [
        (np.ones(3), np.ones(2, bool)),
        (np.ones(3), np.ones(3, bool)),
        (np.ones(3), np.zeros(3, bool)),
        (np.array([1, np.nan]), np.array([True, False])),
        (np.ones(2), np.array([1, 0])),
    ],
)
def test_degenerate_inputs_are_refused(scores: np.ndarray, same: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"pairs|scores|undefined"):
        fpr95(scores, same)


def test_patches_are_described_at_their_centre() -> None:
    asked = []

    def describe(image: np.ndarray, points: np.ndarray) -> np.ndarray:
        asked.append(points.tolist())
        return np.full((len(points), 2), image[0, 0], np.float32)

    patches = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((3, 64, 64), np.uint8)
    assert describe_patches(patches, describe).tolist() == [[0, 0], [1, 1], [2, 2]]
    assert asked == [[[31.5, 31.5]]] * 3
    with pytest.raises(ValueError, match="patches"):
        describe_patches(patches[:0], describe)


def test_similarity_is_the_product_of_partners() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 7, 5)).astype(np.float32)
    found = patch_similarities(first, second)
    np.testing.assert_allclose(found, np.diag(first @ second.T), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="descriptors"):
        patch_similarities(first, second[:3])
