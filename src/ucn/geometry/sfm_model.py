"""A structure-from-motion model: cameras, poses, points and observations."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import inside_image, project_points

Size = tuple[int, int]
"""(width, height), in pixels."""
Indices = NDArray[np.intp]
Distortion = Callable[[Floats], Floats]
"""Maps [N, 2] undistorted coordinates (x/z, y/z) to distorted ones; NaN where undefined.

Picklable, so that tasks can be handed cameras.
"""

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


def posed_images(
    names: Sequence[str],
    cameras: Sequence[SfmCamera],
    T_I44: Floats,
    points_P3: Floats,
    counts_I: Indices,
    index_N: Indices,
    detected_N2: Floats,
) -> list[SfmImage]:
    """Builds images from their detections.

    If a point is detected several times in an image, the detection with the least reprojection
    error is kept.

    Args:
        names: names of the images.
        cameras: camera of each image. Images may share one.
        T_I44: poses. An image is marked as unusable if its pose or its camera's parameters are not
            finite, or if a focal length is not positive.
        points_P3: all 3D points; NaN or infinite where damaged.
        counts_I: number of detections of each image.
        index_N: index of the 3D point of each detection, image by image.
        detected_N2: detected pixels in the photographs, in the cameras' pixel convention.
    """
    faults = [_fault(camera, T) for camera, T in zip(cameras, T_I44, strict=True)]
    image_N = np.repeat(np.arange(len(names)), counts_I)
    errors_N = np.full(len(index_N), np.inf)
    # Damaged points and unusable images get an infinite error.
    with np.errstate(over="ignore", invalid="ignore"):
        points_N3 = np.einsum("nij,nj->ni", T_I44[image_N, :3, :3], points_P3[index_N])
        points_N3 += T_I44[image_N, :3, 3]
        usable_N = np.array([not fault for fault in faults], bool)[image_N]
        front_N = np.flatnonzero(usable_N & (points_N3[:, 2] > 0))
        for camera, rows_M in _by_camera(cameras, image_N, front_N):
            pixels_M2 = camera.project_distorted(_rays(points_N3[rows_M]))
            offsets_M = np.linalg.norm(pixels_M2 - detected_N2[rows_M], axis=1)
            errors_N[rows_M] = np.where(np.isfinite(offsets_M), offsets_M, np.inf)
    key_N = image_N * len(points_P3) + index_N
    order_N = np.argsort(key_N)
    first_K = np.flatnonzero(np.diff(key_N[order_N], prepend=-1))
    errors_K = np.minimum.reduceat(errors_N[order_N], first_K) if len(first_K) else errors_N
    kept_K = order_N[first_K]
    points_K, ends_I = index_N[kept_K], np.searchsorted(image_N[kept_K], np.arange(len(names) + 1))
    return [
        unusable_image(name, camera, fault)
        if fault
        else SfmImage(name, camera, T, points_K[start:end], errors_K[start:end])
        for name, camera, T, fault, (start, end) in zip(
            names, cameras, T_I44, faults, pairwise(ends_I.tolist()), strict=True
        )
    ]


def select_pairs(model: SfmModel, pairs: Iterable[tuple[str, str]]) -> SfmModel:
    """The part of a model that some pairs of images need.

    Args:
        model: the reconstruction.
        pairs: names of the images of each pair.

    Returns:
        The images of the pairs, and the points that both images of a pair observe.
    """
    images = {image.name: image for image in model.images}
    shared: dict[str, list[Indices]] = {}
    for names in pairs:
        points0, points1 = (images[name].points_M for name in names)
        for name in names:
            shared.setdefault(name, []).append(np.intersect1d(points0, points1, True))
    found = [(images[name], np.unique(np.concatenate(shared[name]))) for name in sorted(shared)]
    kept_P = np.unique(np.concatenate([points_M for _, points_M in found]))
    return SfmModel(
        tuple(
            replace(
                image,
                points_M=np.searchsorted(kept_P, points_M),
                errors_M=image.errors_M[np.searchsorted(image.points_M, points_M)],
            )
            for image, points_M in found
        ),
        model.points_P3[kept_P],
        model.tracks_P[kept_P],
    )


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


def _fault(camera: SfmCamera, T_cam_world: Floats) -> str:
    if not np.isfinite(T_cam_world).all():
        return "damaged pose"
    if not (np.isfinite(camera.parameters).all() and (np.diag(camera.K) > 0).all()):
        return "damaged camera"
    return ""


def _by_camera(
    cameras: Sequence[SfmCamera], image_N: Indices, rows_M: Indices
) -> Iterator[tuple[SfmCamera, Indices]]:
    """Splits rows by the camera of their images."""
    found = {id(camera): camera for camera in cameras}
    numbers = {key: number for number, key in enumerate(found)}
    camera_M = np.array([numbers[id(camera)] for camera in cameras], np.intp)[image_N[rows_M]]
    order_M = np.argsort(camera_M, kind="stable")
    ends = np.searchsorted(camera_M[order_M], np.arange(len(found) + 1)).tolist()
    for camera, (start, end) in zip(found.values(), pairwise(ends), strict=True):
        yield camera, rows_M[order_M[start:end]]


def _rays(points_N3: Floats) -> Floats:
    rays_N2: Floats = points_N3[:, :2] / points_N3[:, 2:]
    return rays_N2


def _bend(distort: Distortion, rays_N2: Floats) -> Floats:
    """Distorted rays; NaN beyond the radius at which the lens model folds back."""
    bent_N2 = distort(rays_N2)
    beyond_N2 = distort(rays_N2 * _OUTWARDS)
    folded_N = ((beyond_N2 - bent_N2) * bent_N2).sum(axis=1) < 0
    return np.where(folded_N[:, None], np.nan, bent_N2)
