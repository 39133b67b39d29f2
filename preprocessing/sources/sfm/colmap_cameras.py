"""COLMAP's camera models, evaluated by pycolmap."""

from functools import partial
from typing import NamedTuple

import cv2  # noqa: F401  (before pycolmap: OpenCV aborts at its first PNG otherwise)
import numpy as np
import pycolmap

from ucn.arrays import Floats
from ucn.geometry.sfm_model import SfmCamera, Size

_PINHOLES = ("SIMPLE_PINHOLE", "PINHOLE")


class CameraModel(NamedTuple):
    """ID and name of a COLMAP camera model, and its number of parameters."""

    number: int
    name: str
    parameters: int


def pinhole_like_models() -> list[CameraModel]:
    """Camera models whose images can be undistorted to a pinhole image: all but panoramas."""
    found = []
    for model in pycolmap.CameraModelId.__members__.values():
        if model == pycolmap.CameraModelId.INVALID:
            continue
        camera = pycolmap.Camera.create_from_model_id(1, model, 1.0, 2, 2)
        if camera.is_perspective():
            found.append(CameraModel(int(model), camera.model_name, len(camera.params)))
    return found


def colmap_camera(model: str, size: Size, parameters: tuple[float, ...]) -> SfmCamera:
    """Make a camera from COLMAP's parameters.

    The centre of the top-left pixel is (0.5, 0.5) in COLMAP and (0, 0) in this project.

    Args:
        model: name of one of :func:`pinhole_like_models`.
        size: (width, height) of the images.
        parameters: parameters of the model, in COLMAP's order.
    """
    camera = _pycolmap_camera(model, size, parameters)
    K = _intrinsics(camera)
    K[:2, 2] -= 0.5
    distort = None if model in _PINHOLES else partial(_distort, model, size, parameters)
    return SfmCamera(K, size, model, parameters, distort)


def _distort(model: str, size: Size, parameters: tuple[float, ...], rays_N2: Floats) -> Floats:
    camera = _pycolmap_camera(model, size, parameters)
    K = _intrinsics(camera)
    rays_N3 = np.hstack([rays_N2, np.ones((len(rays_N2), 1))])
    pixels_N2 = np.asarray(camera.img_from_cam(rays_N3), np.float64)
    bent_N2: Floats = (pixels_N2 - K[:2, 2]) / K[[0, 1], [0, 1]]
    return bent_N2


def _pycolmap_camera(model: str, size: Size, parameters: tuple[float, ...]) -> pycolmap.Camera:
    return pycolmap.Camera(model=model, width=size[0], height=size[1], params=list(parameters))


def _intrinsics(camera: pycolmap.Camera) -> Floats:
    """K in COLMAP's pixels."""
    K = np.diag([camera.focal_length_x, camera.focal_length_y, 1.0])
    K[:2, 2] = camera.principal_point_x, camera.principal_point_y
    return K
