import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dense_matching import match_points
from ucn.evaluation.config import MatchingConfig
from ucn.matching.descriptors import unit_rows
from ucn.matching.keypoints import grid_points


def describe_position(image: np.ndarray, points_N2: np.ndarray) -> np.ndarray:
    """Describe a point by where it lies, the image's top-left value being a shift in x."""
    x = points_N2[:, 0] - np.float32(image[0, 0])
    rows = np.stack([x, points_N2[:, 1], np.full(len(x), 100.0)], axis=1)
    return unit_rows(rows)


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
