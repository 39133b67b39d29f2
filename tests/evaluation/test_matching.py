import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ucn.evaluation.config import MatchingConfig
from ucn.evaluation.methods.dense import (
    describe_pair,
    grid_points,
    match_described,
    match_keypoints,
    match_points,
    nearest_neighbours,
    second_similarities,
)
from ucn.matching.descriptors import unit_rows


def describe_position(image: np.ndarray, points_N2: np.ndarray) -> np.ndarray:
    """Describe a point by where it lies, the image's top-left value being a shift in x."""
    x = points_N2[:, 0] - np.float32(image[0, 0])
    rows = np.stack([x, points_N2[:, 1], np.full(len(x), 100.0)], axis=1)
    return unit_rows(rows)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 300),
    st.integers(1, 12),
)
def test_equals_brute_force_in_float64(seed: int, n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    queries, references = (unit_rows(rng.standard_normal((k, d))) for k in (n, m))
    index, similarity = nearest_neighbours(queries, references, memory_mib=1)
    products = queries.astype(np.float64) @ references.astype(np.float64).T
    distances = np.linalg.norm(
        queries[:, None].astype(np.float64) - references[None].astype(np.float64), axis=2
    )
    found = distances[np.arange(n), index]
    np.testing.assert_allclose(found, distances.min(axis=1), atol=2e-3)  # up to ties in float32
    np.testing.assert_allclose(products[np.arange(n), index], products.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(similarity, products.max(axis=1), atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(2, 9))
def test_ties_go_to_the_lowest_index(seed: int, copies: int) -> None:
    rng = np.random.default_rng(seed)
    # Multiples of 1/8: products are exact, so equal rows tie exactly.
    references = rng.integers(-8, 9, (10, 4)).astype(np.float32) / 8
    queries = rng.integers(-8, 9, (25, 4)).astype(np.float32) / 8
    expected = np.argmax(queries @ references.T, axis=1)
    index, _ = nearest_neighbours(queries, np.tile(references, (copies, 1)))
    assert index.tolist() == expected.tolist()


def test_bounded_memory_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    queries = unit_rows(rng.standard_normal((50, 8)))
    references = unit_rows(rng.standard_normal((100_000, 8)))
    small, large = (nearest_neighbours(queries, references, size)[0] for size in (1, 512))
    assert (small == large).all()


def test_many_queries_and_positions_equal_brute_force() -> None:
    rng = np.random.default_rng(11)
    queries, references = (unit_rows(rng.standard_normal((n, 6))) for n in (301, 7001))
    index, similarity = nearest_neighbours(queries, references)
    products = queries.astype(np.float64) @ references.astype(np.float64).T
    np.testing.assert_allclose(products[np.arange(301), index], products.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(similarity, products.max(axis=1), atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 4), (4,)])
def test_nothing_to_search_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot search"):
        nearest_neighbours(np.zeros((3, 4), np.float32), np.zeros(shape, np.float32))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 5))
def test_grid_lists_every_stepth_pixel_row_by_row(width: int, height: int, step: int) -> None:
    expected = [(x, y) for y in range(0, height, step) for x in range(0, width, step)]
    assert grid_points(width, height, step).tolist() == [list(map(float, p)) for p in expected]


@settings(max_examples=20)
@given(st.integers(0, 12).map(lambda x: 2 * x), st.integers(0, 2**16))
def test_known_shift_is_found_and_reciprocal(shift: int, seed: int) -> None:
    image0 = np.zeros((40, 60), np.uint8)
    image1 = np.full((50, 90), shift, np.uint8)
    queries = 2.0 * np.random.default_rng(seed).integers(0, 20, (30, 2)).astype(np.float32)
    found = match_points(image0, image1, queries, describe_position, MatchingConfig(subpixel=False))
    np.testing.assert_array_equal(found.positions_N2, queries + np.float32([shift, 0]))
    assert found.reciprocal_N.all()


def test_one_way_matches_are_not_reciprocal() -> None:
    image0, image1 = np.zeros((40, 60), np.uint8), np.zeros((40, 20), np.uint8)
    queries = np.float32([[10, 10], [58, 10]])  # the second lies outside image 1
    found = match_points(image0, image1, queries, describe_position, MatchingConfig(subpixel=False))
    assert found.reciprocal_N.tolist() == [True, False]
    unfiltered = match_points(
        image0, image1, queries, describe_position, MatchingConfig(reciprocity_px=0, subpixel=False)
    )
    assert unfiltered.reciprocal_N.all()
    np.testing.assert_array_equal(unfiltered.positions_N2, found.positions_N2)


def described_noise(seed: int, keypoints: int) -> tuple:
    """A pair of noise descriptors, the same wherever a point is asked for again."""
    rows = unit_rows(np.random.default_rng(seed).standard_normal((40 * 60, 8)))

    def describe(image: np.ndarray, points_N2: np.ndarray) -> np.ndarray:
        x, y = points_N2.astype(int).T
        return np.roll(rows, int(image[0, 0]), axis=0)[y * 60 + x]

    image0, image1 = np.zeros((40, 60), np.uint8), np.full((40, 60), 5, np.uint8)
    points = np.random.default_rng(seed + 1).integers(0, 40, (keypoints, 2)).astype(np.float32)
    queries = np.random.default_rng(seed + 2).integers(0, 40, (30, 2)).astype(np.float32)
    config = MatchingConfig(grid_step=3, second_radius_px=7.5, memory_mib=1)
    pair = describe_pair(image0, image1, queries, describe, config, {"corners": points})
    return pair, config, points


@settings(max_examples=20)
@given(st.integers(0, 2**16))
def test_second_best_lies_beyond_the_radius(seed: int) -> None:
    pair, config, _ = described_noise(seed, 4)
    found = match_described(pair, config)
    second = second_similarities(pair, found.positions_N2, config)
    products = pair.queries_ND.double().numpy() @ pair.grid1_MD.double().numpy().T
    pixels = grid_points(60, 40, 3)
    apart = np.linalg.norm(pixels[None] - found.positions_N2[:, None], axis=2)
    expected = np.where(apart <= 7.5, -np.inf, products).max(axis=1)
    np.testing.assert_allclose(second, expected, atol=1e-6)
    assert (second <= found.similarity_N + 1e-6).all()


@settings(max_examples=20)
@given(st.integers(0, 2**16), st.integers(0, 30))
def test_keypoints_are_searched_exactly(seed: int, count: int) -> None:
    pair, config, points = described_noise(seed, count)
    found = match_keypoints(pair, "corners", config)
    if not count:
        assert np.isnan(found).all()
        return
    products = pair.queries_ND.double().numpy() @ pair.keypoints1["corners"][1].double().numpy().T
    np.testing.assert_array_equal(found, points[products.argmax(axis=1)])
