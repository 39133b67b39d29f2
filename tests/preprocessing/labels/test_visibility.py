"""The sparse z-buffer against scenes of planes whose visibility is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.geometry.rigid import inside_image, project_points
from ucn.preprocessing.labels.lidar.visibility import (
    AZIMUTH_STEP,
    RING_STEP,
    Agreement,
    Map,
    ScanGrid,
    cells_of,
    compare_with_surface,
    hidden_points,
    inverse_depth_map,
    occluder_map,
    scan_grid,
    silhouette_map,
    surface_map,
)

K = np.array([[721.5, 0, 609.6], [0, 721.5, 172.9], [0, 0, 1.0]])
SIZE = (1242, 375)
HEIGHT = 1.65
GRID = scan_grid(SIZE, 721.5, HEIGHT)
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


def scan_map(pixels: np.ndarray, depths: np.ndarray) -> Map:
    return inverse_depth_map(cells_of(pixels.T, GRID), (1 / depths).astype(np.float32), GRID)


def judge(map_HW: Map, pixels: np.ndarray, depths: np.ndarray) -> tuple[np.ndarray, Agreement]:
    """Which points are hidden, and how they agree with the scan."""
    cells, inverse = cells_of(pixels.T, GRID), (1 / depths).astype(np.float32)
    return (
        hidden_points(occluder_map(map_HW, GRID), cells, inverse),
        compare_with_surface(surface_map(map_HW, GRID), cells, inverse),
    )


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
        hidden, agreement = judge(scan_map(pixels, depths), pixels, depths)
        assert not hidden.any()
        assert agreement.confirmed.all()
        assert not agreement.seen_through.any()
        assert np.abs(agreement.offset).max() < 0.05


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
    hidden, _ = judge(scan_map(pixels, depths), pixels, depths)

    count = len(pixels_board)
    assert not hidden[:count].any()
    x = pixels_wall[:, 0]
    edges = [K[0, 0] * edge / near + K[0, 2] for edge in (left, right)]
    vertical = (pixels_wall[:, 1] > pixels_board[:, 1].min()) & (
        pixels_wall[:, 1] < pixels_board[:, 1].max()
    )
    behind = (x > edges[0] + 1) & (x < edges[1] - 1) & vertical
    beside = (x < edges[0] - 2 * GRID.cell * GRID.x) | (x > edges[1] + 2 * GRID.cell * GRID.x)
    assert hidden[count:][behind].all()
    assert not hidden[count:][beside].any()


def test_a_surface_that_left_is_seen_through_and_one_that_stays_is_confirmed() -> None:
    directions = beams()
    wall = directions * (30 / directions[:, 2:])
    pixels, depths = view(wall)
    map_HW = scan_map(pixels, depths)
    hidden, gone = judge(map_HW, pixels, np.full(len(pixels), 12.0))
    assert gone.seen_through.all()
    assert not gone.confirmed.any()
    assert not hidden.any()
    np.testing.assert_allclose(gone.offset, 1 - 12 / 30, atol=1e-5)
    hidden, behind = judge(map_HW, pixels, np.full(len(pixels), 50.0))
    assert not behind.seen_through.any()
    assert not behind.confirmed.any()
    np.testing.assert_allclose(behind.offset, 1 - 50 / 30, atol=1e-5)
    inner = (np.abs(pixels - np.median(pixels, axis=0)) < 100).all(1)
    assert hidden[inner].all()


def test_where_the_scan_has_nothing_nothing_is_said() -> None:
    empty = np.zeros(GRID.shape, np.float32)
    hidden, agreement = judge(empty, np.array([[600.0, 200.0]]), np.array([10.0]))
    assert not hidden.any()
    assert not agreement.confirmed.any()
    assert not agreement.seen_through.any()
    assert agreement.offset == 0


def test_the_nearest_sample_of_a_cell_wins_in_any_order() -> None:
    grid = scan_grid((20, 20), 300.0, HEIGHT)
    pixels = np.array([[5.2, 7.4], [4.9, 6.6], [5.0, 7.0]])
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        inverse = (1 / np.array([10.0, 4.0, 8.0])).astype(np.float32)
        map_HW = inverse_depth_map(cells_of(pixels[order].T, grid), inverse, grid)
        assert map_HW[7, 5] == pytest.approx(0.25)
        assert np.count_nonzero(map_HW) == 1


def test_cells_cover_the_image_up_to_its_borders() -> None:
    corners = np.array([[-0.5, -0.5], [1241.5, -0.5], [-0.5, 374.5], [1241.5, 374.5]])
    rows, columns = np.divmod(cells_of(corners.T, GRID), GRID.shape[1])
    assert rows.tolist() == [0, 0, 375 // GRID.cell, 375 // GRID.cell]
    assert columns.tolist() == [0, 1242 // GRID.cell, 0, 1242 // GRID.cell]
    assert rows.max() < GRID.shape[0]


def brute_occluders(map_HW: Map, grid: ScanGrid) -> np.ndarray:
    """The definition, one cell and one neighbour at a time, in double precision."""
    rows, columns = grid.shape
    result = np.zeros(grid.shape)
    for y in range(rows):
        for x in range(columns):
            quadrants = dict.fromkeys(((-1, -1), (1, 1), (-1, 1), (1, -1)), -np.inf)
            beside = 0.0
            for dy in range(-grid.y, grid.y + 1):
                for dx in range(-grid.x, grid.x + 1):
                    if not (0 <= y + dy < rows and 0 <= x + dx < columns):
                        continue
                    value = float(map_HW[y + dy, x + dx])
                    for side_x, side_y in quadrants:
                        if dx * side_x >= 0 and dy * side_y >= 0:
                            lowered = value - abs(dy) * grid.road_slope
                            old = quadrants[side_x, side_y]
                            quadrants[side_x, side_y] = max(old, lowered)
                    if abs(dy) <= grid.y_near:
                        beside = max(beside, value)
            covering = max(
                min(quadrants[-1, -1], quadrants[1, 1]), min(quadrants[-1, 1], quadrants[1, -1])
            )
            silhouette = (beside - grid.y_near * grid.road_slope) / 1.25
            result[y, x] = max(covering / 1.05, silhouette)
    return result


@given(seeds, st.sampled_from([(40, 30, 90.0), (64, 40, 350.0), (90, 60, 721.5)]))
def test_running_maxima_equal_the_definition(seed: int, shape: tuple[int, int, float]) -> None:
    rng = np.random.default_rng(seed)
    grid = scan_grid(shape[:2], shape[2], HEIGHT)
    map_HW = rng.uniform(0.01, 0.5, grid.shape).astype(np.float32)
    map_HW[rng.random(grid.shape) < rng.uniform(0.3, 0.98)] = 0
    expected = brute_occluders(map_HW, grid)
    positive = expected > 0
    found = occluder_map(map_HW, grid)
    np.testing.assert_allclose(found[positive], expected[positive], rtol=1e-5, atol=1e-7)
    assert (found[~positive] <= 1e-7).all()
    assert (silhouette_map(map_HW, grid) <= found + 1e-7).all()


@given(seeds)
def test_the_nearest_ring_equals_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = scan_grid((60, 40), 721.5, HEIGHT)
    map_HW = rng.uniform(0.01, 0.5, grid.shape).astype(np.float32)
    map_HW[rng.random(grid.shape) < 0.8] = 0
    surface = surface_map(map_HW, grid)
    padded = np.pad(map_HW, ((grid.y_near,) * 2, (grid.x,) * 2))
    for y, x in np.ndindex(grid.shape):
        for distance in range(grid.y_near + 1):
            rows = {y + grid.y_near - distance, y + grid.y_near + distance}
            ring = np.concatenate([padded[row, x : x + 2 * grid.x + 1] for row in rows])
            if (ring > 0).any():
                assert surface.near_HW[y, x] == ring.max()
                assert surface.far_HW[y, x] == ring[ring > 0].min()
                slack = (distance + 0.5) * grid.road_slope
                assert surface.slack_HW[y, x] == pytest.approx(slack)
                break
        else:
            assert surface.near_HW[y, x] == 0
