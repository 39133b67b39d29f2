"""Occlusion of stereo pairs, against a search over all pairs of pixels."""

import numpy as np
import pytest

from ucn.preprocessing.labels.disparity import hidden_pixels, match_disparity


def test_a_larger_disparity_hides_a_smaller_one_at_its_target() -> None:
    # Targets: 0-2.5 (outside), 1-0.25, 2-2 (0), 3-0.5, 4-4.5 (-0.5), unknown, 6-3.25, 7-4.25.
    disparity = np.array([[2.5, 0.25, 2, 0.5, 4.5, np.nan, 3.25, 4.25]], np.float32)
    hidden = hidden_pixels(disparity, 8)
    # The pixel at 4 lands beside column 0 and hides those at 1 and 2, the one at 6 hides the one
    # at 3. The pixel at 7 has no more than one pixel more than the one at 6.
    np.testing.assert_array_equal(hidden, [[False, True, True, True, False, False, False, False]])


def test_hidden_pixels_equal_a_search_over_all_pairs() -> None:
    rng = np.random.default_rng(5)
    disparity = rng.uniform(-3, 25, (6, 40)).astype(np.float32)
    disparity[rng.random(disparity.shape) < 0.2] = np.nan
    width = 37
    expected = np.zeros(disparity.shape, bool)
    for y, row in enumerate(disparity.astype(float)):
        cells = {}
        for x, d in enumerate(row):
            if -0.5 <= x - d <= width - 0.5:
                edges = np.floor(x - d), np.ceil(x - d)
                cells[x] = {min(max(edge, 0), width - 1) for edge in edges}
        for x, own in cells.items():
            expected[y, x] = any(own & cells[other] and row[other] > row[x] + 1 for other in cells)
    assert 50 < expected.sum() < 200
    np.testing.assert_array_equal(hidden_pixels(disparity, width), expected)


def test_matches_are_counted_by_reason() -> None:
    disparity = np.full((4, 20), 2, np.float32)
    disparity[0, 10] = np.nan
    visible = np.ones((4, 20), bool)
    visible[1, :5] = False
    found = match_disparity(disparity, (20, 4), visible_HW=visible)
    # Targets at -2 and -1 are outside.
    assert found.rejected == {"unknown disparity": 1, "outside image 1": 8, "occluded": 3}
    assert len(found.matches_N4) == 80 - 12
    second = np.full((4, 20), 2, np.float32)
    second[2, 7] = 3.5
    second[3, 7] = np.nan
    found = match_disparity(disparity, (20, 4), second_HW=second, visible_HW=visible)
    assert found.rejected["fails the forward-backward check"] == 2
    np.testing.assert_array_equal(found.matches_N4[:, 2], found.matches_N4[:, 0] - 2)


def test_the_second_disparity_replaces_the_z_buffer() -> None:
    """A wrong disparity of the left image hides nothing that the right image, or a mask, shows."""
    disparity = np.full((1, 30), 1, np.float32)
    disparity[0, 20] = 11
    second = np.full((1, 30), 1, np.float32)
    found = match_disparity(disparity, (30, 1), second_HW=second)
    assert set(found.matches_N4[:, 0]) == set(range(1, 30)) - {20}
    found = match_disparity(disparity, (30, 1), visible_HW=np.ones((1, 30), bool))
    assert set(found.matches_N4[:, 0]) == set(range(1, 30))
    assert 10 not in match_disparity(disparity, (30, 1)).matches_N4[:, 0]


def test_no_pixel_is_known() -> None:
    disparity = np.full((3, 4), np.nan, np.float32)
    assert len(match_disparity(disparity, (4, 3)).matches_N4) == 0


Layer = tuple[float, ...]


def nearest_layer(
    layers: list[Layer], x: np.ndarray, y: np.ndarray, from_right: bool
) -> np.ndarray:
    """Disparity of the nearest of slanted rectangles at the points of one image: closed form."""
    nearest = np.full(x.shape, -np.inf)
    for start, slope_x, slope_y, left, top, width, height in layers:
        disparity = start + slope_x * x + slope_y * y
        if from_right:
            disparity = disparity / (1 - slope_x)
        column = x + disparity if from_right else x
        inside = (column >= left) & (column < left + width) & (y >= top) & (y < top + height)
        nearest = np.where(inside & (disparity > nearest), disparity, nearest)
    return nearest


@pytest.mark.parametrize(("with_second", "most_hidden"), [(True, 0.0005), (False, 0.01)])
def test_random_scenes_keep_what_is_visible(with_second: bool, most_hidden: float) -> None:
    width, height = 300, 120
    x, y = np.meshgrid(np.arange(width, dtype=float), np.arange(height, dtype=float))
    counts = np.zeros(4)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        layers: list[Layer] = [(rng.uniform(2, 5), 0.01, 0.02, -1e9, 0, 2e9, height)]
        for _ in range(8):
            slopes = rng.uniform(-0.05, 0.05, 2)
            place = rng.uniform((0, 0, 5, 5), (width, height, 80, 60))
            middle = slopes @ (place[:2] + place[2:] / 2)
            layers.append((rng.uniform(8, 45) - middle, *slopes, *place))
        disparity = nearest_layer(layers, x, y, from_right=False)
        targets = x - disparity
        seen = np.abs(nearest_layer(layers, targets, y, from_right=True) - disparity) < 1e-6
        seen &= targets >= -0.5
        second = nearest_layer(layers, x, y, from_right=True) if with_second else None
        matches = match_disparity(disparity, (width, height), second_HW=second).matches_N4
        found = np.zeros(disparity.shape, bool)
        found[matches[:, 1].astype(int), matches[:, 0].astype(int)] = True
        counts += [(found & seen).sum(), seen.sum(), (found & ~seen).sum(), found.sum()]
    assert counts[0] > 0.99 * counts[1]
    assert counts[2] < most_hidden * counts[3]
