"""The sparse z-buffer against scenes of planes whose visibility is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.geometry import inside_image, project_points
from preprocessing.visibility import (
    AZIMUTH_STEP,
    RING_STEP,
    inverse_depth_map,
    judge_points,
    lidar_window,
)

K = np.array([[721.5, 0, 609.6], [0, 721.5, 172.9], [0, 0, 1.0]])
SIZE = (1242, 375)
HEIGHT = 1.65
WINDOW = lidar_window(721.5, HEIGHT)
seeds = st.integers(0, 2**32 - 1)


def beams(step: float = 1.0) -> np.ndarray:
    """Directions of a LiDAR that stands where the camera is, z forward."""
    elevation = np.arange(np.deg2rad(-2), np.deg2rad(24), RING_STEP * step)
    azimuth = np.arange(np.deg2rad(-40), np.deg2rad(40), AZIMUTH_STEP * step)
    e, a = np.meshgrid(elevation, azimuth, indexing="ij")
    return np.stack([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)], axis=-1).reshape(
        -1, 3
    )


def hit_plane(directions: np.ndarray, normal: np.ndarray, distance: float) -> np.ndarray:
    """Range along each beam to the plane n.x = d; infinite where it is missed."""
    along = directions @ normal
    with np.errstate(divide="ignore"):
        ranges = np.where(along > 1e-9, distance / along, np.inf)
    return np.where(ranges < 80, ranges, np.inf)


def view(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pixels = project_points(K, points)
    inside = inside_image(pixels, SIZE) & (points[:, 2] > 1)
    return pixels[inside], points[inside, 2]


@given(seeds)
def test_no_point_of_a_road_or_a_wall_is_hidden_by_its_own_surface(seed: int) -> None:
    rng = np.random.default_rng(seed)
    directions = beams()
    slope = rng.uniform(-0.05, 0.05, 2)
    road = np.array([slope[0], 1.0, slope[1]])
    wall = np.array([np.sin(yaw := rng.uniform(-0.9, 0.9)), 0, np.cos(yaw)])
    for normal, distance in ((road, HEIGHT), (wall, rng.uniform(5, 40))):
        ranges = hit_plane(directions, normal, distance)
        points = directions[np.isfinite(ranges)] * ranges[np.isfinite(ranges), None]
        pixels, depths = view(points)
        verdict = judge_points(inverse_depth_map(pixels, depths, SIZE), pixels, depths, WINDOW)
        assert not verdict.hidden.any()
        assert verdict.confirmed.all()
        assert not verdict.seen_through.any()


@given(seeds)
def test_points_behind_a_board_are_hidden_and_the_board_is_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    near, far = rng.uniform(5, 12), rng.uniform(20, 60)
    left, right = sorted(rng.uniform(-3, 3, 2))
    right = max(right, left + 0.8)
    directions = beams()
    board = directions * (near / directions[:, 2:])
    on_board = (board[:, 0] > left) & (board[:, 0] < right)
    wall = directions * (far / directions[:, 2:])
    pixels_board, depths_board = view(board[on_board])
    pixels_wall, depths_wall = view(wall)
    pixels = np.vstack([pixels_board, pixels_wall])
    depths = np.concatenate([depths_board, depths_wall])
    verdict = judge_points(inverse_depth_map(pixels, depths, SIZE), pixels, depths, WINDOW)

    count = len(pixels_board)
    assert not verdict.hidden[:count].any()
    x = pixels_wall[:, 0]
    edges = [K[0, 0] * edge / near + K[0, 2] for edge in (left, right)]
    vertical = (pixels_wall[:, 1] > pixels_board[:, 1].min()) & (
        pixels_wall[:, 1] < pixels_board[:, 1].max()
    )
    behind = (x > edges[0] + 1) & (x < edges[1] - 1) & vertical
    beside = (x < edges[0] - WINDOW.x - 2) | (x > edges[1] + WINDOW.x + 2)
    assert verdict.hidden[count:][behind].all()
    assert not verdict.hidden[count:][beside].any()


def test_a_surface_that_left_is_seen_through_and_one_that_stays_is_confirmed() -> None:
    directions = beams()
    wall = directions * (30 / directions[:, 2:])
    pixels, depths = view(wall)
    map_HW = inverse_depth_map(pixels, depths, SIZE)
    gone = judge_points(map_HW, pixels, np.full(len(pixels), 12.0), WINDOW)
    assert gone.seen_through.all()
    assert not gone.confirmed.any()
    behind = judge_points(map_HW, pixels, np.full(len(pixels), 50.0), WINDOW)
    assert not behind.seen_through.any()
    assert not behind.confirmed.any()


def test_where_the_scan_has_nothing_a_point_is_seen_through() -> None:
    verdict = judge_points(
        np.zeros((SIZE[1], SIZE[0]), np.float32),
        np.array([[600.0, 200.0]]),
        np.array([10.0]),
        WINDOW,
    )
    assert verdict.seen_through.all()
    assert not verdict.confirmed.any()
    assert not verdict.hidden.any()


def test_the_nearest_sample_of_a_pixel_wins_in_any_order() -> None:
    pixels = np.array([[5.2, 7.4], [4.9, 6.6], [5.0, 7.0]])
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        depths = np.array([10.0, 4.0, 8.0])
        map_HW = inverse_depth_map(pixels[order], depths[order], (20, 20))
        assert map_HW[7, 5] == pytest.approx(0.25)
        assert np.count_nonzero(map_HW) == 1
