"""Matches from depth maps: a slanted wall with an occluder, rendered exactly in two views."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ucn.arrays import Floats
from ucn.preprocessing.labels.depth import match_depths

W, H = 96, 72
K = np.array([[90.0, 0, 47.5], [0, 88, 35.5], [0, 0, 1]])


def turn(axis: int, angle: float) -> Floats:
    R = np.eye(3)
    a, b = [i for i in range(3) if i != axis]
    R[[a, b], [a, b]] = np.cos(angle)
    R[a, b], R[b, a] = -np.sin(angle), np.sin(angle)
    return R


class Room:
    """A wall n.x = 8 and before it a square at z = 4, in camera 0's frame."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.normal = np.array([*rng.uniform(-0.3, 0.3, 2), 1.0])
        self.corner = np.array([*rng.uniform(-1, 0, 2), 4.0])
        self.side = rng.uniform(0.5, 1.2)
        self.T = np.eye(4)
        self.T[:3, :3] = turn(0, rng.uniform(-0.05, 0.05)) @ turn(1, rng.uniform(-0.1, 0.1))
        self.T[:3, 3] = rng.uniform(-1, 1), rng.uniform(-0.3, 0.3), rng.uniform(-0.5, 0.5)

    def first_hit(self, origin: Floats, directions_N3: Floats) -> Floats:
        """How many directions away the first surface is."""
        with np.errstate(divide="ignore", invalid="ignore"):
            wall_N = (8 - self.normal @ origin) / (directions_N3 @ self.normal)
            wall_N[~(wall_N > 0)] = np.inf
            square_N = (4 - origin[2]) / directions_N3[:, 2]
        on_N2 = (origin + square_N[:, None] * directions_N3 - self.corner)[:, :2]
        hit_N = ((on_N2 >= 0) & (on_N2 <= self.side)).all(axis=1) & (square_N > 0)
        return np.where(hit_N, np.minimum(square_N, wall_N), wall_N)

    def depth(self, T_cam_0: Floats) -> np.ndarray:
        """Depth map: directions with z = 1 in the camera make lengths depths."""
        rows, columns = np.mgrid[:H, :W]
        pixels = np.stack([columns.ravel(), rows.ravel(), np.ones(H * W)], axis=1)
        directions = (pixels @ np.linalg.inv(K).T) @ T_cam_0[:3, :3]
        origin = -T_cam_0[:3, :3].T @ T_cam_0[:3, 3]
        return self.first_hit(origin, directions).reshape(H, W).astype(np.float32)

    def visible_in_1(self, points_N3: Floats) -> np.ndarray:
        """Whether points (camera 0) are in front of camera 1, inside image 1 and not hidden."""
        points1 = points_N3 @ self.T[:3, :3].T + self.T[:3, 3]
        pixels = (points1 @ K.T)[:, :2] / points1[:, 2:]
        inside = (np.abs(pixels - [(W - 1) / 2, (H - 1) / 2]) <= [W / 2, H / 2]).all(axis=1)
        origin = -self.T[:3, :3].T @ self.T[:3, 3]
        free = self.first_hit(origin, points_N3 - origin) > 1 - 1e-4
        return np.asarray((points1[:, 2] > 0) & inside & free)


@given(seed=st.integers(0, 2**32 - 1), step=st.integers(1, 5))
@settings(max_examples=25)
def test_nothing_hidden_is_matched_and_most_of_what_is_seen_is(seed: int, step: int) -> None:
    room = Room(seed)
    depth0, depth1 = room.depth(np.eye(4)), room.depth(room.T)
    found = match_depths((depth0, depth1), (K, K), room.T, step)
    x, y = found.matches_N4[:, :2].T.astype(int)
    np.testing.assert_array_equal(found.matches_N4[:, :2], np.stack([x, y], axis=1))
    assert ((x - step // 2) % step == 0).all()
    assert len(set(zip(x, y, strict=True))) == len(x)
    rays = np.stack([x, y, np.ones(len(x))], axis=1) @ np.linalg.inv(K).T
    points = rays * depth0[y, x][:, None]
    assert room.visible_in_1(points).all()
    points1 = points @ room.T[:3, :3].T + room.T[:3, 3]
    projected = (points1 @ K.T)[:, :2] / points1[:, 2:]
    np.testing.assert_allclose(found.matches_N4[:, 2:], projected, atol=1e-3)
    np.testing.assert_allclose(found.attributes["depth0"], depth0[y, x])
    np.testing.assert_allclose(found.attributes["depth1"], points1[:, 2], rtol=1e-6)

    rows, columns = (grid.ravel() for grid in np.mgrid[step // 2 : H : step, step // 2 : W : step])
    every = np.stack([columns, rows, np.ones(len(rows))], axis=1) @ np.linalg.inv(K).T
    visible = room.visible_in_1(every * depth0[rows, columns][:, None])
    # What is lost are the outlines of the square, and walls slanted by over 1 % a pixel.
    assert len(x) >= 0.9 * visible.sum()
    assert len(x) + sum(found.rejected.values()) == len(rows)


def test_a_plane_is_matched_in_full() -> None:
    depth = np.full((H, W), 5, np.float32)
    T = np.eye(4)
    T[0, 3] = -0.5
    found = match_depths((depth, depth), (K, K), T, 1)
    # A shift of 9 pixels; the border's pixels reach half a pixel beyond their centres.
    assert len(found.matches_N4) == (W - 9) * H
    shift = found.matches_N4[:, 2:] - found.matches_N4[:, :2]
    np.testing.assert_allclose(shift, np.broadcast_to([-9, 0], shift.shape), atol=1e-9)


@pytest.mark.parametrize("unknown", [0, -1, np.nan, np.inf])
def test_unknown_depths_match_nothing(unknown: float) -> None:
    depth, broken = np.full((H, W), 5, np.float32), np.full((H, W), 5, np.float32)
    broken[:, W // 2 :] = unknown
    for maps in ((broken, depth), (depth, broken)):
        found = match_depths(maps, (K, K), np.eye(4), 1)
        assert len(found.matches_N4) == W // 2 * H
        assert found.matches_N4[:, 0].max() == W // 2 - 1


def test_one_percent_is_the_bound() -> None:
    depth = np.full((H, W), 5, np.float32)
    for factor, share in ((1.009, 1), (1.011, 0), (1 / 1.009, 1), (1 / 1.011, 0)):
        other = (depth * factor).astype(np.float32)
        found = match_depths((depth, other), (K, K), np.eye(4), 1)
        assert len(found.matches_N4) == share * W * H
