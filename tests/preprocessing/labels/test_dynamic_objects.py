"""Moving objects in two scans of a car that crosses in front of a wall, and labelled boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.preprocessing.labels.lidar.dynamic_objects import (
    Evidence,
    above_ground_points,
    find_objects,
)
from ucn.preprocessing.sources.kitti.tracklets import inside_box


def car_side(x: float, z: float) -> np.ndarray:
    """Points of a flat side, 4 m long, standing on a road 1.65 m below the camera."""
    along, up = np.meshgrid(np.arange(0, 4, 0.1), np.arange(0.05, 1.4, 0.2))
    return np.stack([x + along.ravel(), 1.65 - up.ravel(), np.full(along.size, z)], axis=1)


def road() -> np.ndarray:
    x, z = np.meshgrid(np.arange(-10, 10, 0.3), np.arange(4, 30, 0.3))
    return np.stack([x.ravel(), np.full(x.size, 1.65), z.ravel()], axis=1)


def evidence(
    points: np.ndarray, uncovered: np.ndarray | None = None, shift: np.ndarray | None = None
) -> Evidence:
    """Everything is in view of the other camera and seen by it, unless said otherwise."""
    standing = above_ground_points(points.T)
    index = standing.index_A
    none = np.zeros(len(points))
    return Evidence(
        standing.points_3A,
        standing.rises_A,
        np.ones(len(index), bool),
        (none if uncovered is None else uncovered)[index].astype(bool),
        (none if shift is None else shift)[index].astype(np.float32),
    )


def moving(points: np.ndarray, scan0: Evidence, scan1: Evidence) -> np.ndarray:
    """Flags of all the points of scan 0."""
    flags = np.zeros(len(points), bool)
    flags[above_ground_points(points.T).index_A] = find_objects(scan0, scan1).moving_A
    return flags


def street(*objects: np.ndarray) -> np.ndarray:
    return np.vstack([road(), car_side(-8, 12), *objects])


@pytest.mark.parametrize("step", [0.8, 2.0])
def test_a_crossing_car_moves_as_a_whole_and_nothing_else_does(step: float) -> None:
    before, after = street(car_side(0, 15)), street(car_side(step, 15))
    car = np.abs(before[:, 2] - 15) < 0.01
    on_road = before[:, 1] > 1.64
    left = car & ~on_road & (before[:, 0] < step)
    reached = (np.abs(after[:, 2] - 15) < 0.01) & (after[:, 1] < 1.64) & (after[:, 0] > 4)
    flags = moving(before, evidence(before, left), evidence(after, reached))
    height = 1.65 - before[:, 1]
    assert flags[car & (height > 0.11)].all()
    assert not flags[~car].any()
    assert not flags[height < 0.09].any()


def test_a_car_that_drives_ahead_is_seen_farther_all_of_it() -> None:
    scene = street(car_side(0, 15))
    car = (np.abs(scene[:, 2] - 15) < 0.01) & (scene[:, 1] < 1.5)
    shift = np.where(car, 0.4, 0.0)
    flags = moving(scene, evidence(scene, shift=shift), evidence(scene, shift=-shift))
    assert flags[car].all()
    assert not flags[~car & (np.abs(scene[:, 2] - 15) > 0.01)].any()
    # Half of the points farther and half of them nearer is no motion.
    shift[car] *= np.where(np.arange(car.sum()) % 2, 1, -1)
    assert not moving(scene, evidence(scene, shift=shift), evidence(scene, shift=-shift)).any()


def test_what_the_other_scan_does_not_see_says_nothing() -> None:
    scene = street(car_side(0, 15))
    unknown = np.full(len(scene), np.nan)
    assert not moving(scene, evidence(scene, shift=unknown), evidence(scene, shift=unknown)).any()


def test_uncovered_points_beside_others_of_the_other_scan_do_not_count() -> None:
    """Beams pass a standing pole by; the other scan has it all the same."""
    scene = street(car_side(0, 15))
    everywhere = (scene[:, 1] < 1.3).astype(float)
    assert not moving(scene, evidence(scene, everywhere), evidence(scene)).any()


def test_a_few_stray_points_move_nothing() -> None:
    scene, gone = street(car_side(0, 15)), street()
    uncovered = np.zeros(len(scene))
    uncovered[-2:] = 1
    assert not moving(scene, evidence(scene, uncovered), evidence(gone)).any()


def test_a_scan_without_objects_has_none_that_move() -> None:
    scene, empty = road(), np.zeros((0, 3))
    assert not moving(scene, evidence(scene), evidence(scene)).any()
    assert not moving(scene, evidence(scene), evidence(empty)).any()


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
    found = inside_box(points_N3.T, bottom, (height, width, length), yaw, 0.2)
    np.testing.assert_array_equal(found, expected)
