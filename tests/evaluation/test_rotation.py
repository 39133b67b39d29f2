"""Pose of pairs without parallax: a car that stands, or turns on the spot."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ucn.evaluation.scores.estimators import ESTIMATORS, Rays
from ucn.evaluation.scores.pose import PoseError, estimate_pose, normalise_points, pose_error
from ucn.evaluation.scores.rotation import estimate_rotation, prefers_rotation

K0 = np.array([[721.5, 0, 609.6], [0, 721.5, 172.9], [0, 0, 1]])
K1 = np.array([[420.0, 0, 320], [0, 430, 240], [0, 0, 1]])
MOTIONS = {
    "forward": ([0.2, -0.5, 0.1], [0.02, -0.01, -0.8]),
    "rotation alone": ([3.0, -20.0, 5.0], [0.0, 0.0, 0.0]),
    "half turn": ([0.0, 0.0, 170.0], [0.0, 0.0, 0.0]),
    "none": ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
}


def transformation(motion: str) -> np.ndarray:
    angles, translation = MOTIONS[motion]
    T_1_0 = np.eye(4)
    T_1_0[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    T_1_0[:3, 3] = translation
    return T_1_0


def matches_of(
    T_1_0: np.ndarray, count: int, seed: int, noise_px: float = 0.0, outliers: float = 0.0
) -> np.ndarray:
    """Matches of points 4 to 60 m away, by independent projection in float64."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(4, 60, count)
    points = np.column_stack([rng.uniform(-0.4, 0.4, (count, 2)) * depth[:, None], depth])
    ends = []
    for K, camera in ((K0, points), (K1, points @ T_1_0[:3, :3].T + T_1_0[:3, 3])):
        homogeneous = camera @ K.T
        ends.append(homogeneous[:, :2] / homogeneous[:, 2:])
    matches = np.hstack(ends) + rng.normal(0, noise_px, (count, 4))
    wrong = rng.random(count) < outliers
    matches[wrong, 2:] = rng.uniform(0, 480, (wrong.sum(), 2))
    return matches


def errors(motion: str, estimator: str, matches: np.ndarray, seed: int = 0) -> PoseError:
    pose = estimate_pose(matches, K0, K1, estimator, 1.0, seed)
    return pose_error(pose, transformation(motion), moves=motion == "forward")


@pytest.mark.parametrize(("motion", "estimator"), itertools.product(MOTIONS, ESTIMATORS))
@pytest.mark.parametrize("seed", range(3))
def test_perfect_matches_have_no_error(motion: str, estimator: str, seed: int) -> None:
    error = errors(motion, estimator, matches_of(transformation(motion), 200, seed), seed)
    assert error.rotation_deg < 0.01
    if motion == "forward":
        assert error.translation_deg is not None
        assert error.translation_deg < 0.1
    else:
        assert error.translation_deg is None


@pytest.mark.parametrize(("motion", "estimator"), itertools.product(MOTIONS, ESTIMATORS))
def test_noise_and_outliers_are_withstood(motion: str, estimator: str) -> None:
    matches = matches_of(transformation(motion), 400, 5, noise_px=0.25, outliers=0.4)
    assert errors(motion, estimator, matches).rotation_deg < 0.3


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("seed", range(3))
def test_pairs_with_parallax_keep_the_pose_of_the_estimator(estimator: str, seed: int) -> None:
    """A car that drives 0.4 m between two frames."""
    T_1_0 = transformation("forward")
    T_1_0[:3, 3] *= 0.5
    matches = matches_of(T_1_0, 500, seed, noise_px=0.3, outliers=0.3)
    pose = estimate_pose(matches, K0, K1, estimator, 1.0, seed)
    rays = Rays(normalise_points(matches[:, :2], K0), normalise_points(matches[:, 2:], K1), 573.25)
    own = ESTIMATORS[estimator](rays, 1.0, seed)
    assert pose is not None
    assert own is not None
    np.testing.assert_array_equal(pose.R, own.R)
    np.testing.assert_array_equal(pose.t, own.t)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_unrelated_points_have_no_rotation(estimator: str) -> None:
    matches = matches_of(np.eye(4), 300, 0, outliers=1.0)
    rays = Rays(normalise_points(matches[:, :2], K0), normalise_points(matches[:, 2:], K1), 573.25)
    assert estimate_rotation(rays, 1.0, 0) is None
    pose = estimate_pose(matches, K0, K1, estimator, 1.0, 0)
    own = ESTIMATORS[estimator](rays, 1.0, 0)
    assert (pose is None) == (own is None)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_on_a_plane_the_pose_is_one_of_those_that_the_points_allow(estimator: str) -> None:
    """Points of a plane fit two poses (Faugeras and Lustman, 1988)."""
    T_1_0 = transformation("forward")
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-4, 4, (300, 2)), np.full(300, 9.0)])
    points = points @ Rotation.from_euler("x", 35, degrees=True).as_matrix().T + [0, 0, 4]
    moved = points @ T_1_0[:3, :3].T + T_1_0[:3, 3]
    pixels = [camera @ K.T for K, camera in ((K0, points), (K1, moved))]
    matches = np.hstack([one[:, :2] / one[:, 2:] for one in pixels])
    H, _ = cv2.findHomography(
        normalise_points(matches[:, :2], K0), normalise_points(matches[:, 2:], K1)
    )
    _, rotations, translations, _ = cv2.decomposeHomographyMat(H, np.eye(3))
    pose = estimate_pose(matches, K0, K1, estimator, 1.0, 0)
    allowed = []
    for R, t in zip(rotations, translations, strict=True):
        candidate = np.eye(4)
        candidate[:3, :3], candidate[:3, 3] = R, np.ravel(t)
        allowed.append(pose_error(pose, candidate, moves=True))
    assert min(max(one.rotation_deg, one.translation_deg or 0.0) for one in allowed) < 0.1


@given(st.integers(0, 2**32 - 1))
def test_any_rotation_is_recovered(seed: int) -> None:
    rng = np.random.default_rng(seed)
    R = Rotation.from_rotvec(rng.normal(0, 0.2, 3)).as_matrix()
    rays0 = rng.uniform(-0.5, 0.5, (20, 2))
    turned = np.column_stack([rays0, np.ones(20)]) @ R.T
    rays = Rays(rays0, turned[:, :2] / turned[:, 2:], 500.0)
    found = estimate_rotation(rays, 1.0, seed)
    assert found is not None
    np.testing.assert_allclose(found, R, atol=1e-9)
    assert prefers_rotation(found, None, rays, 1.0)
