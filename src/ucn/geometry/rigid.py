"""Rigid motion and perspective projection, on arrays."""

import numpy as np

from ucn.arrays import Bools, Floats


def invert_rigid(T_b_a: Floats) -> Floats:
    """Inverse ``T_a_b`` of a 4x4 rigid transformation."""
    R, t = T_b_a[:3, :3], T_b_a[:3, 3]
    inverse = np.eye(4)
    inverse[:3, :3] = R.T
    inverse[:3, 3] = -R.T @ t
    return inverse


def transform_points(T_b_a: Floats, points_a_N3: Floats) -> Floats:
    """Transforms [N, 3] points from frame a to frame b."""
    return points_a_N3 @ T_b_a[:3, :3].T + T_b_a[:3, 3]


def project_points(K: Floats, points_N3: Floats) -> Floats:
    """Projects [N, 3] points in the camera's frame to pixels [N, 2]; invalid where z <= 0."""
    homogeneous_N3 = points_N3 @ K.T
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels: Floats = homogeneous_N3[:, :2] / homogeneous_N3[:, 2:]
    return pixels


def inside_image(pixels_N2: Floats, size: tuple[int, int]) -> Bools:
    """Whether [N, 2] pixels lie inside an image: -0.5 <= x <= width - 0.5, and y likewise."""
    width, height = size
    x, y = pixels_N2[:, 0], pixels_N2[:, 1]
    inside: Bools = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return inside
