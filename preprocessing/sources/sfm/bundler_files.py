"""Reader of Bundler's ``bundle.out``, version 0.3 (Bundler's README, "Output format")."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ucn.arrays import Floats
from ucn.errors import UserError
from ucn.geometry.sfm_model import SfmCamera, SfmModel, posed_images, unusable_image

_HEADER = "# Bundle file v0.3"
# Bundler's cameras look along -z, and their y axis points up.
_FLIP_3 = np.array([1.0, -1.0, -1.0])
_CAMERA_NUMBERS = 15
_POINT_NUMBERS = 7  # without the list of views
# Rotations in the file are rounded. Singular values may differ from 1 by this much.
_ROUNDED = 1e-3


class _Tracks(NamedTuple):
    """3D points [P] and their observations [N]."""

    points_P3: Floats
    point_N: np.ndarray[tuple[int], np.dtype[np.intp]]
    image_N: np.ndarray[tuple[int], np.dtype[np.intp]]
    pixels_N2: Floats
    """Relative to the image centre; y points down."""


def read_bundle(path: Path, names: list[str]) -> SfmModel:
    """Read a reconstruction.

    Pixels are relative to the image centre. The file does not give the size of the images
    (:attr:`SfmCamera.size` is None). Images that Bundler did not register (focal length 0) are
    marked as unusable.

    Args:
        path: the file.
        names: names of the images, in the order of the file.

    Raises:
        UserError: the file is missing, damaged, of another version, or does not have
            ``len(names)`` images.
    """
    numbers, images, points = _read_numbers(path)
    if images != len(names):
        raise UserError(
            f"{path}: {images} images, but there are {len(names)} names; "
            "put a list.txt of all images beside it"
        )
    end = images * _CAMERA_NUMBERS
    cameras_I53 = numbers[:end].reshape(images, 5, 3)
    tracks = _tracks(path, numbers[end:], points, images)
    order_N = np.argsort(tracks.image_N, kind="stable")
    found = posed_images(
        names,
        [_camera(camera_53) for camera_53 in cameras_I53],
        np.array([_pose(camera_53) for camera_53 in cameras_I53]).reshape(-1, 4, 4),
        tracks.points_P3,
        np.bincount(tracks.image_N, minlength=images),
        tracks.point_N[order_N],
        tracks.pixels_N2[order_N],
    )
    for index in np.flatnonzero(cameras_I53[:, 0, 0] == 0).tolist():
        found[index] = unusable_image(names[index], found[index].camera, "not registered")
    found.sort(key=lambda image: image.name)
    return SfmModel(tuple(found), tracks.points_P3, np.arange(points, dtype=np.int64))


def _read_numbers(path: Path) -> tuple[Floats, int, int]:
    """All numbers after the two counts, the number of images, and the number of points."""
    try:
        header, _, rest = path.read_text("utf-8-sig").partition("\n")
    except OSError:
        raise UserError(f"{path}: cannot be read; name Bundler's file with --model") from None
    except UnicodeDecodeError:
        raise _damaged(path, "not a text file") from None
    if header.strip() != _HEADER:
        raise UserError(
            f"{path}: begins with {header.strip()[:30]!r}, not {_HEADER!r}; "
            "write it with Bundler 0.3 or later"
        )
    try:
        # split() would need ten times the file's size in memory.
        values = np.fromstring(rest, np.float64, sep=" ")
        images, points = int(values[0]), int(values[1])
    except (ValueError, IndexError, OverflowError):
        raise _damaged(path, "not a file of numbers") from None
    if min(images, points) < 0 or len(values) < 2 + images * _CAMERA_NUMBERS:
        raise _damaged(path, f"cut short within its {images} cameras")
    return values[2:], images, points


def _tracks(path: Path, numbers: Floats, points: int, images: int) -> _Tracks:
    if points * _POINT_NUMBERS > len(numbers):
        raise _damaged(path, f"cut short within its {points} points")
    starts_P, lengths_P = np.empty(points, np.intp), np.empty(points, np.intp)
    at = 0
    # Position, colour, number of views, then image, keypoint, x and y of each view.
    for point in range(points):
        length = float(numbers[at + 6]) if at + 6 < len(numbers) else -1.0
        views_at = at + _POINT_NUMBERS
        if not (0 <= length <= (len(numbers) - views_at) / 4 and length.is_integer()):
            raise _damaged(path, f"cut short within point {point} of {points}")
        starts_P[point], lengths_P[point] = at, length
        at = views_at + 4 * int(length)
    if at < len(numbers):
        raise _damaged(path, f"{len(numbers) - at} numbers after its end")
    # Row of each view, counted from the first view of its point.
    row_N = np.arange(lengths_P.sum()) - np.repeat(np.cumsum(lengths_P) - lengths_P, lengths_P)
    view_N = np.repeat(starts_P + _POINT_NUMBERS, lengths_P) + 4 * row_N
    image_N = numbers[view_N]
    if not ((image_N >= 0) & (image_N < images)).all():
        raise _damaged(path, f"a point is seen in an image that is not one of {images}")
    return _Tracks(
        numbers[starts_P[:, None] + np.arange(3)],
        np.repeat(np.arange(points), lengths_P),
        image_N.astype(np.intp),
        np.stack([numbers[view_N + 2], -numbers[view_N + 3]], axis=1),
    )


def _camera(camera_53: Floats) -> SfmCamera:
    focal, k1, k2 = camera_53[0].tolist()
    distort = None if k1 == 0 and k2 == 0 else partial(_distort, k1, k2)
    return SfmCamera(np.diag([focal, focal, 1.0]), None, "BUNDLER", (focal, k1, k2), distort)


def _pose(camera_53: Floats) -> Floats:
    """T_cam_world; NaN for a damaged one."""
    T_cam_world = np.eye(4)
    T_cam_world[:3, :3] = _FLIP_3[:, None] * _nearest_rotation(camera_53[1:4])
    T_cam_world[:3, 3] = _FLIP_3 * camera_53[4]
    return T_cam_world


def _nearest_rotation(R: Floats) -> Floats:
    """The rotation nearest to a rounded one; NaN if the matrix is not close to a rotation."""
    if not np.isfinite(R).all():
        return np.full((3, 3), np.nan)
    U, scales_3, Vt = np.linalg.svd(R)
    rotation: Floats = U @ Vt
    if np.abs(scales_3 - 1).max() > _ROUNDED or np.linalg.det(rotation) < 0:
        return np.full((3, 3), np.nan)
    return rotation


def _distort(k1: float, k2: float, rays_N2: Floats) -> Floats:
    square_N1 = (rays_N2**2).sum(axis=1, keepdims=True)
    bent_N2: Floats = rays_N2 * (1 + square_N1 * (k1 + k2 * square_N1))
    return bent_N2


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; copy it anew")
