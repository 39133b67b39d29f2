"""Pairs without parallax: estimates a pure rotation, and decides whether it explains the matches.

Without parallax every essential matrix ``[t]x R`` fits for any ``t``, and also for ``R`` turned by
180 degrees about ``t``. All points are then at infinity, so that none can choose among them.
"""

import numpy as np

from ucn.arrays import Bools
from ucn.evaluation.scores.estimators import MIN_MATCHES, Doubles, Rays, RelativePose
from ucn.geometry.epipolar import fundamental_matrix, sampson_distances

_SAMPLES = 256
_REFINEMENTS = 5
# Least share of the matches that a rotation must explain.
_MIN_INLIERS = 0.25
# An inlier threshold is the 95 % quantile of a normal error.
_THRESHOLD_SIGMAS = 1.96


def estimate_rotation(rays: Rays, threshold_px: float, seed: int) -> Doubles | None:
    """Robustly estimates R [3, 3] with ``ray1 ~ R ray0``: RANSAC on two matches, then refinement.

    Args:
        rays: at least two matches.
        threshold_px: inlier threshold on the reprojection error in image 1, pixels.
        seed: random seed.

    Returns:
        The rotation; None if it explains fewer than a quarter of the matches.
    """
    bearings0_N3, bearings1_N3 = _bearings(rays.rays0_N2), _bearings(rays.rays1_N2)
    count = len(bearings0_N3)
    rng = np.random.default_rng(seed)
    first_S = rng.integers(count, size=_SAMPLES)
    sample_S2 = np.stack([first_S, (first_S + rng.integers(1, count, _SAMPLES)) % count], axis=1)
    R_S33 = _fit(bearings0_N3[sample_S2], bearings1_N3[sample_S2])
    inliers_SN = _inliers(R_S33, rays, threshold_px)
    best = int(inliers_SN.sum(axis=1).argmax())
    R, inliers_N = R_S33[best], inliers_SN[best]
    for _ in range(_REFINEMENTS):
        refined = _fit(bearings0_N3[None, inliers_N], bearings1_N3[None, inliers_N])[0]
        refined_N = _inliers(refined[None], rays, threshold_px)[0]
        if refined_N.sum() < inliers_N.sum():
            break
        R, inliers_N = refined, refined_N
    return R if inliers_N.sum() >= max(MIN_MATCHES, _MIN_INLIERS * count) else None


def prefers_rotation(
    R: Doubles, pose: RelativePose | None, rays: Rays, threshold_px: float
) -> bool:
    """Whether a pure rotation is a better model of the matches than a pose with translation.

    Compares the geometric robust information criterion (GRIC; Torr, "Geometric Motion Segmentation
    and Model Selection", 1998): residuals, plus a cost for the dimension of each model. A rotation
    is preferred if its residuals show no parallax.

    Args:
        R: the rotation.
        pose: the pose with translation; None if none was found.
        rays: the matches.
        threshold_px: inlier threshold of both.
    """
    if pose is None or pose.t is None:
        return True
    sigma = threshold_px / _THRESHOLD_SIGMAS
    rotation = _gric(_errors_px(R, rays) / sigma, dimension=2, parameters=3)
    T_1_0 = np.eye(4)
    T_1_0[:3, :3], T_1_0[:3, 3] = pose.R, pose.t
    E = fundamental_matrix(np.eye(3), np.eye(3), T_1_0)
    sampson_N = sampson_distances(E, np.hstack([rays.rays0_N2, rays.rays1_N2])) * rays.focal_px
    return rotation < _gric(sampson_N / sigma, dimension=3, parameters=5)


def _gric(errors_N: Doubles, dimension: int, parameters: int) -> float:
    """GRIC of errors in standard deviations; matches have four dimensions."""
    count = len(errors_N)
    residual = np.minimum(errors_N**2, 2.0 * (4 - dimension)).sum()
    return float(residual + np.log(4) * dimension * count + np.log(4 * count) * parameters)


def _homogeneous(rays_N2: Doubles) -> Doubles:
    return np.column_stack([rays_N2, np.ones(len(rays_N2))])


def _bearings(rays_N2: Doubles) -> Doubles:
    homogeneous_N3 = _homogeneous(rays_N2)
    bearings_N3: Doubles = homogeneous_N3 / np.linalg.norm(homogeneous_N3, axis=1, keepdims=True)
    return bearings_N3


def _fit(bearings0_SN3: Doubles, bearings1_SN3: Doubles) -> Doubles:
    """Least-squares rotations [S, 3, 3] (Kabsch, 1976)."""
    U, _, Vt = np.linalg.svd(bearings1_SN3.swapaxes(1, 2) @ bearings0_SN3)
    U[:, :, 2] *= np.linalg.det(U @ Vt)[:, None]
    R_S33: Doubles = U @ Vt
    return R_S33


def _inliers(R_S33: Doubles, rays: Rays, threshold_px: float) -> Bools:
    """Matches [S, N] whose `_errors_px` is within the threshold, without a division."""
    x_SN, y_SN, z_SN = (R_S33 @ _homogeneous(rays.rays0_N2).T).swapaxes(0, 1)
    x_SN -= rays.rays1_N2[:, 0] * z_SN
    y_SN -= rays.rays1_N2[:, 1] * z_SN
    bound_SN = threshold_px / rays.focal_px * z_SN
    inliers_SN: Bools = (z_SN > 0) & (x_SN**2 + y_SN**2 <= bound_SN**2)
    return inliers_SN


def _errors_px(R: Doubles, rays: Rays) -> Doubles:
    """Reprojection errors [N] in image 1, pixels; infinite behind the camera."""
    turned_N3 = _homogeneous(rays.rays0_N2) @ R.T
    with np.errstate(divide="ignore", invalid="ignore"):
        shift_N2 = turned_N3[:, :2] / turned_N3[:, 2:] - rays.rays1_N2
    error_N = np.linalg.norm(shift_N2, axis=1) * rays.focal_px
    return np.where(turned_N3[:, 2] > 0, error_N, np.inf)
