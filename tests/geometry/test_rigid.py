"""Rigid motion and projection against general linear algebra."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ucn.geometry.rigid import inside_image, invert_rigid, project_points, transform_points

seeds = st.integers(0, 2**32 - 1)


def random_rigid(rng: np.random.Generator) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    T[:3, 3] = rng.normal(0, 10, 3)
    return T


@given(seeds)
def test_invert_rigid_equals_the_matrix_inverse(seed: int) -> None:
    T = random_rigid(np.random.default_rng(seed))
    np.testing.assert_allclose(invert_rigid(T), np.linalg.inv(T), atol=1e-9)


@given(seeds)
def test_transform_points_equals_homogeneous_product(seed: int) -> None:
    rng = np.random.default_rng(seed)
    T, points_N3 = random_rigid(rng), rng.normal(0, 20, (7, 3))
    expected = (T @ np.c_[points_N3, np.ones(7)].T).T[:, :3]
    np.testing.assert_allclose(transform_points(T, points_N3), expected, atol=1e-9)


def test_a_point_on_the_optical_axis_projects_to_the_principal_point() -> None:
    K = np.array([[700.0, 0, 310.5], [0, 710.0, 90.25], [0, 0, 1]])
    pixels = project_points(K, np.array([[0.0, 0, 5], [1.0, -2, 10]]))
    np.testing.assert_allclose(pixels, [[310.5, 90.25], [380.5, -51.75]])


def test_an_image_spans_half_a_pixel_beyond_its_pixel_centres() -> None:
    pixels = np.array([[-0.5, -0.5], [3.5, 1.5], [-0.51, 0], [3.51, 0], [0, 1.51], [np.nan, 0]])
    assert inside_image(pixels, (4, 2)).tolist() == [True, True, False, False, False, False]
