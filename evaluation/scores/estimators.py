"""Robust estimators of relative poses and homographies, with one interface for each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import poselib
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

MIN_MATCHES = 5
"""Minimum number of matches for the five-point algorithm."""
MIN_PLANAR_MATCHES = 4
"""Minimum number of matches for a homography."""
CONFIDENCE = 0.9999
MAX_ITERATIONS = 5_000
FARTHEST_BASELINES = 1e6
"""Largest depth, in baselines, of points used to choose among the candidate poses. OpenCV's default
of 50 would exclude most of a street if the car moves 0.2 m between frames."""


@dataclass(frozen=True)
class RelativePose:
    """Rotation R [3, 3] and unit translation t [3] from camera 0 to camera 1.

    t is None if the matches show no parallax and no translation was found.
    """

    R: Doubles
    t: Doubles | None


@dataclass(frozen=True)
class Rays:
    """Matches in normalised camera coordinates.

    Attributes:
        rays0_N2, rays1_N2: float64 (x / z, y / z) in each camera.
        focal_px: mean focal length, pixels.
    """

    rays0_N2: Doubles
    rays1_N2: Doubles
    focal_px: float


Estimate = Callable[[Rays, float, int], RelativePose | None]
"""Maps rays, an inlier threshold in pixels and a seed to a pose; None if no model was found."""


def _order_for_opencv(count: int, seed: int) -> NDArray[np.int64]:
    # OpenCV's seed is a constant, so the order of the matches is shuffled instead.
    return np.random.default_rng(seed).permutation(count)


def _opencv(rays: Rays, threshold_px: float, seed: int, method: int) -> RelativePose | None:
    order_N = _order_for_opencv(len(rays.rays0_N2), seed)
    rays0_N2, rays1_N2 = rays.rays0_N2[order_N], rays.rays1_N2[order_N]
    identity = np.eye(3)
    try:
        essentials, inliers = cv2.findEssentialMat(
            rays0_N2,
            rays1_N2,
            identity,
            method=method,
            prob=CONFIDENCE,
            threshold=threshold_px / rays.focal_px,
            maxIters=MAX_ITERATIONS,
        )
    except cv2.error:  # degenerate matches: no model was found
        return None
    best: tuple[int, RelativePose | None] = (0, None)
    # The five-point solver may return several stacked matrices.
    for essential in [] if essentials is None else np.split(essentials, len(essentials) // 3):
        count, R, t, *_ = cv2.recoverPose(
            essential, rays0_N2, rays1_N2, identity, FARTHEST_BASELINES, mask=inliers.copy()
        )
        if count > best[0]:
            best = (count, RelativePose(np.asarray(R, np.float64), np.ravel(t).astype(np.float64)))
    return best[1]


def opencv_ransac(rays: Rays, threshold_px: float, seed: int) -> RelativePose | None:
    """OpenCV's five-point RANSAC without refinement, as was common when UCN was published."""
    return _opencv(rays, threshold_px, seed, cv2.RANSAC)


def opencv_magsac(rays: Rays, threshold_px: float, seed: int) -> RelativePose | None:
    """MAGSAC++ (Barath et al., CVPR 2020) in OpenCV's USAC framework."""
    return _opencv(rays, threshold_px, seed, cv2.USAC_MAGSAC)


def poselib_lo_ransac(rays: Rays, threshold_px: float, seed: int) -> RelativePose | None:
    """PoseLib's LO-RANSAC with non-linear refinement."""
    camera = {"model": "SIMPLE_PINHOLE", "width": 1, "height": 1, "params": [rays.focal_px, 0, 0]}
    pose, found = poselib.estimate_relative_pose(
        rays.rays0_N2 * rays.focal_px,
        rays.rays1_N2 * rays.focal_px,
        camera,
        camera,
        {
            "max_epipolar_error": threshold_px,
            "max_iterations": MAX_ITERATIONS,
            "success_prob": CONFIDENCE,
            "seed": seed,
        },
        {},
    )
    length = float(np.linalg.norm(pose.t))
    if found["num_inliers"] < MIN_MATCHES or not length > 0:
        return None
    return RelativePose(np.asarray(pose.R), np.asarray(pose.t) / length)


ESTIMATORS: Mapping[str, Estimate] = {
    "poselib": poselib_lo_ransac,
    "opencv-magsac": opencv_magsac,
    "opencv-ransac": opencv_ransac,
}


EstimateHomography = Callable[[Doubles, Doubles, float, int], Doubles | None]
"""Maps points0_N2 and points1_N2 in pixels (N >= 4), an inlier threshold in pixels and a seed to
H_1_0 [3, 3]; None if no model was found."""


def _opencv_homography(
    points0_N2: Doubles, points1_N2: Doubles, threshold_px: float, seed: int, method: int
) -> Doubles | None:
    order_N = _order_for_opencv(len(points0_N2), seed)
    try:
        H_1_0, _ = cv2.findHomography(
            points0_N2[order_N],
            points1_N2[order_N],
            method,
            threshold_px,
            maxIters=MAX_ITERATIONS,
            confidence=CONFIDENCE,
        )
    except cv2.error:  # degenerate matches: no model was found
        return None
    return None if H_1_0 is None or not H_1_0.size else np.asarray(H_1_0, np.float64)


def opencv_ransac_homography(
    points0_N2: Doubles, points1_N2: Doubles, threshold_px: float, seed: int
) -> Doubles | None:
    """OpenCV's RANSAC, refined on its inliers."""
    return _opencv_homography(points0_N2, points1_N2, threshold_px, seed, cv2.RANSAC)


def opencv_magsac_homography(
    points0_N2: Doubles, points1_N2: Doubles, threshold_px: float, seed: int
) -> Doubles | None:
    """MAGSAC++ (Barath et al., CVPR 2020) in OpenCV's USAC framework."""
    return _opencv_homography(points0_N2, points1_N2, threshold_px, seed, cv2.USAC_MAGSAC)


def poselib_homography(
    points0_N2: Doubles, points1_N2: Doubles, threshold_px: float, seed: int
) -> Doubles | None:
    """PoseLib's LO-RANSAC with non-linear refinement."""
    H_1_0, found = poselib.estimate_homography(
        points0_N2,
        points1_N2,
        {
            "max_reproj_error": threshold_px,
            "max_iterations": MAX_ITERATIONS,
            "success_prob": CONFIDENCE,
            "seed": seed,
        },
        {},
    )
    return np.asarray(H_1_0) if found["num_inliers"] >= MIN_PLANAR_MATCHES else None


HOMOGRAPHY_ESTIMATORS: Mapping[str, EstimateHomography] = {
    "poselib": poselib_homography,
    "opencv-magsac": opencv_magsac_homography,
    "opencv-ransac": opencv_ransac_homography,
}
