"""Two-view geometry of calibrated cameras: epipolar lines, corrected matches, depths.

Matches are [N, 4]: x0, y0, x1, y1 in pixels. Undefined results (such as at an epipole) are NaN.
"""

import numpy as np

from ucn.arrays import Floats

_ITERATIONS = 10


def fundamental_matrix(K0: Floats, K1: Floats, T_1_0: Floats) -> Floats:
    """Fundamental matrix of unit norm: ``x1^T F x0 = 0`` for corresponding pixels.

    Raises:
        ValueError: both cameras have the same centre, so the epipolar geometry is undefined.
    """
    R, t = T_1_0[:3, :3], T_1_0[:3, 3]
    cross_t = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    F: Floats = np.linalg.inv(K1).T @ cross_t @ R @ np.linalg.inv(K0)
    norm = float(np.linalg.norm(F))
    if not norm > 0:
        raise ValueError("both cameras have one centre")
    return F / norm


def epipolar_distances(F: Floats, matches_N4: Floats) -> Floats:
    """Signed distances [N, 2] of each point from the epipolar line of its match, in pixels.

    Both columns have the sign of ``x1^T F x0``.
    """
    lines0_N3, lines1_N3, value_N = _lines(F, matches_N4)
    norms_N2 = np.stack(
        [np.linalg.norm(lines_N3[:, :2], axis=1) for lines_N3 in (lines0_N3, lines1_N3)], axis=1
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        distances: Floats = value_N[:, None] / norms_N2
    return distances


def sampson_distances(F: Floats, matches_N4: Floats) -> Floats:
    """Signed Sampson distances [N], in pixels: first-order distances from matches that fit ``F``.

    Hartley and Zisserman, "Multiple View Geometry", 2nd edition, equation 11.9.
    """
    lines0_N3, lines1_N3, value_N = _lines(F, matches_N4)
    gradient_N4 = np.hstack([lines0_N3[:, :2], lines1_N3[:, :2]])
    with np.errstate(divide="ignore", invalid="ignore"):
        distances: Floats = value_N / np.linalg.norm(gradient_N4, axis=1)
    return distances


def correct_matches(F: Floats, matches_N4: Floats) -> Floats:
    """Corrects matches to fit ``F`` exactly, with the least sum of squared shifts of both points.

    Lindstrom, "Triangulation Made Easy", CVPR 2010. Each iteration steps along the epipolar
    normals. The step length solves a quadratic, so the constraint holds after every iteration.

    Returns:
        Matches [N, 4]; NaN next to an epipole, where the correction is undefined.
    """
    ends0_N2, ends1_N2 = matches_N4[:, :2], matches_N4[:, 2:]
    lines0_N3, lines1_N3, value_N = _lines(F, matches_N4)
    normal0_N2, normal1_N2 = lines0_N3[:, :2], lines1_N3[:, :2]
    corrected_N4 = matches_N4
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(_ITERATIONS):
            lines0_now_N3, lines1_now_N3, _ = _lines(F, corrected_N4)
            step0_N2, step1_N2 = lines0_now_N3[:, :2], lines1_now_N3[:, :2]
            a_N = np.einsum("ni,ij,nj->n", step1_N2, F[:2, :2], step0_N2)
            b_N = ((step0_N2 * normal0_N2).sum(1) + (step1_N2 * normal1_N2).sum(1)) / 2
            root_N = np.sqrt(b_N**2 - a_N * value_N)
            length_N1 = (value_N / (b_N + np.copysign(root_N, b_N)))[:, None]
            corrected_N4 = np.hstack(
                [ends0_N2 - length_N1 * step0_N2, ends1_N2 - length_N1 * step1_N2]
            )
    return corrected_N4


def triangulate_depths(K0: Floats, K1: Floats, T_1_0: Floats, matches_N4: Floats) -> Floats:
    """Triangulated depths [N, 2] along the two cameras' axes, in the unit of ``T_1_0``.

    The depths are exact for matches that fit the epipolar geometry. Rays that are parallel or
    meet behind a camera give infinite, NaN or negative depths.
    """
    rays0_N3 = back_project(K0, matches_N4[:, :2]) @ T_1_0[:3, :3].T
    rays1_N3 = back_project(K1, matches_N4[:, 2:])
    t = T_1_0[:3, 3]
    # z0 rays0 + t = z1 rays1. The cross product with one ray eliminates that ray's depth.
    normal_N3 = np.cross(rays1_N3, rays0_N3)
    square_N = (normal_N3**2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth0_N = -(normal_N3 * np.cross(rays1_N3, t)).sum(1) / square_N
        depth1_N = -(normal_N3 * np.cross(rays0_N3, t)).sum(1) / square_N
    return np.stack([depth0_N, depth1_N], axis=1)


def back_project(K: Floats, pixels_N2: Floats) -> Floats:
    """Back-projects pixels to points [N, 3] at depth 1."""
    points_N3: Floats = _homogeneous(pixels_N2) @ np.linalg.inv(K).T
    return points_N3


def plane_induced_affinities(K0: Floats, K1: Floats, T_1_0: Floats, points_N3: Floats) -> Floats:
    """Local affine maps from image 0 to image 1, assuming surfaces that face both cameras.

    The surface normal at each point bisects the two viewing directions.

    Args:
        K0, K1: 3x3 intrinsics.
        T_1_0: relative pose.
        points_N3: points in the frame of camera 0.

    Returns:
        [N, 2, 2], the derivative of the pixel in image 1 with respect to the pixel in image 0.
    """
    R, t = T_1_0[:3, :3], T_1_0[:3, 3]
    from1_N3 = points_N3 + R.T @ t
    normals_N3 = _unit(points_N3) + _unit(from1_N3)
    distance_N = (normals_N3 * points_N3).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        induced_N33 = R + t[:, None] * (normals_N3 / distance_N[:, None])[:, None, :]
        H_N33 = K1 @ induced_N33 @ np.linalg.inv(K0)
        pixels0_N2 = _dehomogenise(points_N3 @ K0.T)
        mapped_N3 = np.einsum("nij,nj->ni", H_N33, _homogeneous(pixels0_N2))
        pixels1_N2 = _dehomogenise(mapped_N3)
        affinities: Floats = (
            H_N33[:, :2, :2] - pixels1_N2[:, :, None] * H_N33[:, None, 2, :2]
        ) / mapped_N3[:, 2, None, None]
    return affinities


def _lines(F: Floats, matches_N4: Floats) -> tuple[Floats, Floats, Floats]:
    """Epipolar lines [N, 3] in images 0 and 1, and ``x1^T F x0`` [N]."""
    ends0_N3, ends1_N3 = _homogeneous(matches_N4[:, :2]), _homogeneous(matches_N4[:, 2:])
    lines1_N3 = ends0_N3 @ F.T
    return ends1_N3 @ F, lines1_N3, (lines1_N3 * ends1_N3).sum(1)


def _homogeneous(pixels_N2: Floats) -> Floats:
    return np.hstack([pixels_N2, np.ones((len(pixels_N2), 1))])


def _dehomogenise(points_N3: Floats) -> Floats:
    return points_N3[:, :2] / points_N3[:, 2:]


def _unit(vectors_N3: Floats) -> Floats:
    return np.asarray(vectors_N3 / np.linalg.norm(vectors_N3, axis=1, keepdims=True))
