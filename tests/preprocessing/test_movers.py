"""Moving objects in two scans of a car that crosses in front of a wall, and labelled boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.movers import inside_box, moving_clusters


def car_side(x: float, z: float) -> np.ndarray:
    """Points of a flat side, 4 m long, standing on a road 1.65 m below the camera."""
    along, up = np.meshgrid(np.arange(0, 4, 0.1), np.arange(0.05, 1.4, 0.2))
    return np.stack([x + along.ravel(), 1.65 - up.ravel(), np.full(along.size, z)], axis=1)


def road() -> np.ndarray:
    x, z = np.meshgrid(np.arange(-10, 10, 0.3), np.arange(4, 30, 0.3))
    return np.stack([x.ravel(), np.full(x.size, 1.65), z.ravel()], axis=1)


@pytest.mark.parametrize("step", [0.8, 2.0])
def test_a_crossing_car_moves_as_a_whole_and_nothing_else_does(step: float) -> None:
    parked, before, after = car_side(-8, 12), car_side(0, 15), car_side(step, 15)
    points = np.vstack([road(), parked, before, after])
    ends = [len(road()), len(parked), len(before), len(after)]
    _, parked_at, before_at, after_at = np.split(np.arange(len(points)), np.cumsum(ends)[:-1])
    uncovered = np.zeros(len(points), bool)
    uncovered[before_at] = before[:, 0] < step
    uncovered[after_at] = after[:, 0] > 4
    moving = moving_clusters(points, uncovered)
    height = 1.65 - points[:, 1]
    assert moving[before_at].all()
    assert moving[after_at].all()
    assert not moving[parked_at].any()
    assert not moving[(height < 0.01) & (np.abs(points[:, 2] - 15) > 2)].any()


def test_a_few_stray_points_move_nothing() -> None:
    points = np.vstack([road(), car_side(0, 15)])
    uncovered = np.zeros(len(points), bool)
    assert not moving_clusters(points, uncovered).any()
    uncovered[-2:] = True
    assert not moving_clusters(points, uncovered).any()


@given(st.integers(0, 2**32 - 1))
def test_inside_box_equals_the_box_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bottom, yaw = rng.uniform(-5, 5, 3), rng.uniform(-4, 4)
    height, width, length = rng.uniform(1, 4, 3)
    points_N3 = bottom + rng.uniform(-4, 4, (200, 3))
    R = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    local_N3 = np.linalg.solve(R, (points_N3 - bottom).T).T
    expected = (np.abs(local_N3[:, :2]) <= np.array([length, width]) / 2 + 0.2).all(1)
    expected &= (local_N3[:, 2] >= 0) & (local_N3[:, 2] <= height + 0.2)
    found = inside_box(points_N3, bottom, (height, width, length), yaw, 0.2)
    np.testing.assert_array_equal(found, expected)
