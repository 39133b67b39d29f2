"""Epipolar geometry against independent constructions and OpenCV's solvers."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ucn.geometry.epipolar import (
    back_project,
    correct_matches,
    epipolar_distances,
    fundamental_matrix,
    plane_induced_affinities,
    sampson_distances,
    triangulate_depths,
)

Array = np.ndarray
SEEDS = st.integers(0, 2**32 - 1)


class Scene:
    """Two random cameras side by side and points in front of both."""

    def __init__(self, seed: int, count: int = 40) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.K0, self.K1 = (
            np.array(
                [
                    [rng.uniform(300, 1500), rng.uniform(-5, 5), rng.uniform(200, 600)],
                    [0, rng.uniform(300, 1500), rng.uniform(200, 600)],
                    [0, 0, 1],
                ]
            )
            for _ in range(2)
        )
        self.T_1_0 = np.eye(4)
        self.T_1_0[:3, :3] = Rotation.from_rotvec(rng.uniform(-0.4, 0.4, 3)).as_matrix()
        self.T_1_0[:3, 3] = [rng.choice([-1, 1]) * rng.uniform(0.5, 2), *rng.uniform(-0.3, 0.3, 2)]
        self.points0 = np.column_stack(
            [rng.uniform(-2, 2, count), rng.uniform(-2, 2, count), rng.uniform(4, 12, count)]
        )
        self.points1 = self.points0 @ self.T_1_0[:3, :3].T + self.T_1_0[:3, 3]
        self.matches = np.hstack([project(self.K0, self.points0), project(self.K1, self.points1)])

    @property
    def F(self) -> Array:
        return fundamental_matrix(self.K0, self.K1, self.T_1_0)

    @property
    def noisy(self) -> Array:
        return self.matches + self.rng.normal(0, 2, self.matches.shape)

    @property
    def cameras(self) -> tuple[Array, Array]:
        return self.K0 @ np.eye(3, 4), self.K1 @ self.T_1_0[:3]


def project(K: Array, points: Array) -> Array:
    image = (K @ points.T).T
    return image[:, :2] / image[:, 2:]


@given(seed=SEEDS)
def test_true_matches_lie_on_their_lines(seed: int) -> None:
    scene = Scene(seed)
    assert np.linalg.norm(scene.F) == pytest.approx(1)
    assert np.abs(epipolar_distances(scene.F, scene.matches)).max() < 1e-8
    assert np.abs(sampson_distances(scene.F, scene.matches)).max() < 1e-8


@given(seed=SEEDS)
def test_distances_are_those_from_a_line_through_two_projected_points(seed: int) -> None:
    """The epipolar line of a pixel is the picture of its ray."""
    scene = Scene(seed)
    noisy = scene.noisy
    found = epipolar_distances(scene.F, noisy)
    R, t = scene.T_1_0[:3, :3], scene.T_1_0[:3, 3]
    inverse = (R.T, -R.T @ t)
    for column, (K_a, K_b, (turn, shift), here, there) in enumerate(
        (
            (scene.K1, scene.K0, inverse, noisy[:, 2:], noisy[:, :2]),
            (scene.K0, scene.K1, (R, t), noisy[:, :2], noisy[:, 2:]),
        )
    ):
        rays = np.column_stack([here, np.ones(len(here))]) @ np.linalg.inv(K_a).T
        near, far = (project(K_b, (depth * rays) @ turn.T + shift) for depth in (5.0, 9.0))
        along = (far - near) / np.linalg.norm(far - near, axis=1, keepdims=True)
        offset = there - near
        expected = np.abs(along[:, 0] * offset[:, 1] - along[:, 1] * offset[:, 0])
        assert np.abs(found[:, column]) == pytest.approx(expected, abs=1e-6)
    assert (np.sign(found[:, 0]) == np.sign(found[:, 1])).all()


@given(seed=SEEDS)
def test_sampson_distance_is_that_of_opencv(seed: int) -> None:
    scene = Scene(seed, 5)
    noisy = scene.noisy
    squares = [
        cv2.sampsonDistance(np.array([*row[:2], 1.0]), np.array([*row[2:], 1.0]), scene.F)
        for row in noisy
    ]
    assert sampson_distances(scene.F, noisy) ** 2 == pytest.approx(squares, rel=1e-6)


@given(seed=SEEDS)
@example(seed=372)
def test_corrected_matches_are_the_nearest_that_fit(seed: int) -> None:
    scene = Scene(seed)
    noisy = scene.noisy
    corrected = correct_matches(scene.F, noisy)
    assert np.abs(epipolar_distances(scene.F, corrected)).max() < 1e-7
    expected = np.hstack(
        [ends[0] for ends in cv2.correctMatches(scene.F, noisy[None, :, :2], noisy[None, :, 2:])]
    )
    # OpenCV's roots of a polynomial of degree six are good to some thousandths of a pixel, near an
    # epipole to some hundredths; ours are never farther from the match (below).
    assert np.abs(corrected - expected).max() < 0.1
    shift, opencv_shift = (np.linalg.norm(one - noisy, axis=1) for one in (corrected, expected))
    assert (shift <= opencv_shift + 1e-5).all()


@given(seed=SEEDS)
def test_correction_leaves_true_matches_alone(seed: int) -> None:
    scene = Scene(seed)
    assert correct_matches(scene.F, scene.matches) == pytest.approx(scene.matches, abs=1e-7)


@given(seed=SEEDS)
def test_depths_are_the_true_ones_and_opencv_s(seed: int) -> None:
    scene = Scene(seed)
    depths = triangulate_depths(scene.K0, scene.K1, scene.T_1_0, scene.matches)
    assert depths == pytest.approx(np.column_stack([scene.points0[:, 2], scene.points1[:, 2]]))
    corrected = correct_matches(scene.F, scene.noisy)
    points = cv2.triangulatePoints(*scene.cameras, corrected[:, :2].T, corrected[:, 2:].T)
    depths = triangulate_depths(scene.K0, scene.K1, scene.T_1_0, corrected)
    assert depths[:, 0] == pytest.approx(points[2] / points[3], rel=1e-4)


def test_a_point_behind_the_cameras_has_negative_depths() -> None:
    scene = Scene(1)
    behind0 = -scene.points0
    behind1 = behind0 @ scene.T_1_0[:3, :3].T + scene.T_1_0[:3, 3]
    matches = np.hstack([project(scene.K0, behind0), project(scene.K1, behind1)])
    depths = triangulate_depths(scene.K0, scene.K1, scene.T_1_0, matches)
    assert depths == pytest.approx(np.column_stack([behind0[:, 2], behind1[:, 2]]))
    assert (depths < 0).all()


def test_parallel_rays_have_no_finite_depth() -> None:
    T_1_0 = np.eye(4)
    T_1_0[0, 3] = 1
    depths = triangulate_depths(np.eye(3), np.eye(3), T_1_0, np.array([[0.1, 0.2, 0.1, 0.2]]))
    assert not np.isfinite(depths).any()


def test_one_centre_has_no_epipolar_lines() -> None:
    with pytest.raises(ValueError, match="one centre"):
        fundamental_matrix(np.eye(3), np.eye(3), np.eye(4))


def test_back_projection_undoes_projection() -> None:
    scene = Scene(2)
    rays = back_project(scene.K0, scene.matches[:, :2])
    assert rays * scene.points0[:, 2:] == pytest.approx(scene.points0)


@settings(max_examples=40)
@given(seed=SEEDS)
def test_affinities_are_those_of_small_patches_that_face_halfway(seed: int) -> None:
    """Points are moved within the patch's plane, and their pictures compared."""
    scene = Scene(seed, 5)
    centre1 = -scene.T_1_0[:3, :3].T @ scene.T_1_0[:3, 3]
    found = plane_induced_affinities(scene.K0, scene.K1, scene.T_1_0, scene.points0)
    for point, affinity in zip(scene.points0, found, strict=True):
        to0, to1 = -point, centre1 - point
        normal = to0 / np.linalg.norm(to0) + to1 / np.linalg.norm(to1)
        plane = np.linalg.svd(normal[None])[2][1:]
        moved = point + 1e-6 * np.vstack([np.zeros(3), plane])
        pixels0 = project(scene.K0, moved)
        pixels1 = project(scene.K1, moved @ scene.T_1_0[:3, :3].T + scene.T_1_0[:3, 3])
        steps0, steps1 = pixels0[1:] - pixels0[0], pixels1[1:] - pixels1[0]
        expected = np.linalg.solve(steps0, steps1).T
        assert affinity == pytest.approx(expected, rel=1e-3, abs=1e-4)
