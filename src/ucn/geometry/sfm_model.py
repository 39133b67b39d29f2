"""A structure-from-motion model: cameras, poses, points and observations."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import inside_image, project_points, transform_points

Size = tuple[int, int]
"""(width, height), in pixels."""
Indices = NDArray[np.intp]
Distortion = Callable[[Floats], Floats]
"""Maps [N, 2] undistorted coordinates (x/z, y/z) to distorted ones; NaN where undefined."""

# A lens model is valid as long as the distorted radius grows with the undistorted one.
_OUTWARDS = 1 + 1e-4


@dataclass(frozen=True)
class SfmCamera:
    """A pinhole camera with lens distortion.

    Attributes:
        K: 3x3 intrinsics without skew, pixels. The same before and after undistortion.
        size: (width, height) of its images. None if pixels are counted from the image's centre,
            so that images of any size fit.
        model: name of the lens model.
        parameters: lens parameters as stored in the file.
        distort: distortion function; None for an undistorted camera.
    """

    K: Floats
    size: Size | None
    model: str
    parameters: tuple[float, ...]
    distort: Distortion | None = None

    def project_distorted(self, rays_N2: Floats) -> Floats:
        """Pixels [N, 2] of rays (x/z, y/z) in the distorted photograph; NaN where undefined."""
        bent_N2 = rays_N2 if self.distort is None else _bend(self.distort, rays_N2)
        return bent_N2 * self.K[[0, 1], [0, 1]] + self.K[:2, 2]

    def fitted(self, size: Size) -> "SfmCamera | None":
        """The camera for an image of ``size``, with pixels counted from the top left.

        Returns:
            None if the camera's images have another size.
        """
        if self.size is not None:
            return self if self.size == size else None
        K = self.K.copy()
        K[:2, 2] += (np.array(size) - 1) / 2
        return replace(self, K=K, size=size)


@dataclass(frozen=True)
class SfmImage:
    """A photograph with its pose and observations.

    Attributes:
        name: path relative to the image folder.
        camera: camera of the image.
        T_cam_world: 4x4 pose.
        points_M: unique, ascending indices of the observed 3D points.
        errors_M: reprojection error of each observation, pixels; infinite for points behind the
            camera.
        fault: short reason why the image cannot be used; empty if it can.
    """

    name: str
    camera: SfmCamera
    T_cam_world: Floats
    points_M: Indices
    errors_M: Floats
    fault: str = ""

    def good_points(self, max_error: float) -> Indices:
        """Ascending indices of the points whose reprojection error is at most ``max_error``."""
        return self.points_M[self.errors_M <= max_error]


@dataclass(frozen=True)
class SfmModel:
    """A structure-from-motion reconstruction.

    Attributes:
        images: ordered by name.
        points_P3: 3D points in the world frame, in the unit of the model.
        tracks_P: int64, identifier of each point in the file.
    """

    images: tuple[SfmImage, ...]
    points_P3: Floats
    tracks_P: NDArray[np.int64]


def unusable_image(name: str, camera: SfmCamera, fault: str) -> SfmImage:
    """An image without a pose, with the reason ``fault``."""
    return SfmImage(name, camera, np.eye(4), np.zeros(0, np.intp), np.zeros(0), fault)


def posed_image(
    name: str,
    camera: SfmCamera,
    T_cam_world: Floats,
    points_P3: Floats,
    index_N: Indices,
    detected_N2: Floats,
) -> SfmImage:
    """Builds an image from its detections.

    If a point is detected several times, the detection with the least reprojection error is kept.

    Args:
        name: name of the image.
        camera: camera of the image.
        T_cam_world: 4x4 pose. The image is marked as unusable if the pose or the camera's
            parameters are not finite, or if a focal length is not positive.
        points_P3: all 3D points; NaN or infinite where damaged.
        index_N: index of the 3D point of each detection.
        detected_N2: detected pixels in the photograph, in the camera's pixel convention.
    """
    if not np.isfinite(T_cam_world).all():
        return unusable_image(name, camera, "damaged pose")
    if not (np.isfinite(camera.parameters).all() and (np.diag(camera.K) > 0).all()):
        return unusable_image(name, camera, "damaged camera")
    errors_N = np.full(len(index_N), np.inf)
    # Damaged points get an infinite error.
    with np.errstate(over="ignore", invalid="ignore"):
        points_N3 = transform_points(T_cam_world, points_P3[index_N])
        in_front_N = points_N3[:, 2] > 0
        pixels_N2 = camera.project_distorted(_rays(points_N3[in_front_N]))
        offsets_N = np.linalg.norm(pixels_N2 - detected_N2[in_front_N], axis=1)
    errors_N[in_front_N] = np.where(np.isfinite(offsets_N), offsets_N, np.inf)
    order_N = np.lexsort((errors_N, index_N))
    first_N = np.diff(index_N[order_N], prepend=-1) > 0
    kept_M = order_N[first_N]
    return SfmImage(name, camera, T_cam_world, index_N[kept_M], errors_N[kept_M])


def image_points(
    camera: SfmCamera, points_N3: Floats, size: Size, undistorted: bool
) -> tuple[Floats, Bools]:
    """Projects points into an image, and checks which of them are visible in it.

    Args:
        camera: camera fitted to the image.
        points_N3: points in the camera's frame, z > 0.
        size: (width, height) of the image.
        undistorted: whether to project into the undistorted image instead of the photograph.

    Returns:
        Pixels [N, 2], and whether each lies inside both the image and the photograph.
    """
    photo_N2 = camera.project_distorted(_rays(points_N3))
    pixels_N2 = project_points(camera.K, points_N3) if undistorted else photo_N2
    return pixels_N2, inside_image(photo_N2, size) & inside_image(pixels_N2, size)


def _rays(points_N3: Floats) -> Floats:
    rays_N2: Floats = points_N3[:, :2] / points_N3[:, 2:]
    return rays_N2


def _bend(distort: Distortion, rays_N2: Floats) -> Floats:
    """Distorted rays; NaN beyond the radius at which the lens model folds back."""
    bent_N2 = distort(rays_N2)
    beyond_N2 = distort(rays_N2 * _OUTWARDS)
    folded_N = ((beyond_N2 - bent_N2) * bent_N2).sum(axis=1) < 0
    return np.where(folded_N[:, None], np.nan, bent_N2)
