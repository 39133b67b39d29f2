"""COLMAP's sparse models: ``cameras``, ``images`` and ``points3D``, as ``.bin`` or ``.txt``.

The format is documented in COLMAP's "Output Format". The rigs and frames of newer models are not
read, because each image has its own pose in these models, too.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ucn.errors import UserError
from ucn.geometry.sfm_model import SfmCamera, SfmImage, SfmModel, posed_image, unusable_image
from ucn.preprocessing.sources.sfm import colmap_binary, colmap_text
from ucn.preprocessing.sources.sfm.colmap_cameras import colmap_camera
from ucn.preprocessing.sources.sfm.colmap_records import (
    NO_POINT,
    CameraRecord,
    ImageRecord,
    PointRecords,
    damaged,
)

_PARTS = ("cameras", "images", "points3D")
# Pixels. A larger value means a damaged file, and pycolmap does not accept it.
_LONGEST_SIDE = 1_000_000


def model_files(folder: Path) -> list[Path]:
    """The three files of a model: binary files if all three exist, else text files.

    Raises:
        UserError: neither set of files is complete.
    """
    for suffix in (".bin", ".txt"):
        paths = [folder / f"{part}{suffix}" for part in _PARTS]
        if all(path.is_file() for path in paths):
            return paths
    raise UserError(
        f"{folder}: no {', '.join(_PARTS)}, all as .bin or all as .txt; "
        "pass the folder of a sparse model of COLMAP's"
    )


def read_colmap_model(folder: Path) -> SfmModel:
    """Read a sparse model.

    Images with a pose or camera that is not finite are marked as unusable.

    Raises:
        UserError: a file is missing or damaged, or a camera model is unknown or panoramic.
    """
    paths = model_files(folder)
    files = colmap_binary if paths[0].suffix == ".bin" else colmap_text
    cameras = {
        number: _camera(number, record, paths[0])
        for number, record in files.read_cameras(paths[0]).items()
    }
    points = _sorted(files.read_points(paths[2]))
    records = sorted(files.read_images(paths[1]), key=lambda record: record.name)
    for one, following in pairwise(records):
        if one.name == following.name:
            raise damaged(paths[1], f"image {one.name} stands twice")
    images = tuple(_image(record, cameras, points, paths[1]) for record in records)
    return SfmModel(images, points.points_P3, points.numbers_P)


def _camera(number: int, record: CameraRecord, path: Path) -> SfmCamera:
    if not all(1 <= side <= _LONGEST_SIDE for side in record.size):
        width, height = record.size
        raise damaged(path, f"camera {number}: images of {width}x{height} pixels")
    return colmap_camera(record.model, record.size, record.parameters)


def _sorted(points: PointRecords) -> PointRecords:
    order_P = np.argsort(points.numbers_P, kind="stable")
    return PointRecords(points.numbers_P[order_P], points.points_P3[order_P])


def _image(
    record: ImageRecord, cameras: dict[int, SfmCamera], points: PointRecords, path: Path
) -> SfmImage:
    if not Path(record.name).name or "\0" in record.name:
        raise damaged(path, f"{record.name!r} is not an image's name")
    if record.camera not in cameras:
        raise damaged(path, f"{record.name}: camera {record.camera} is not in the model")
    camera = cameras[record.camera]
    seen_M = np.flatnonzero(record.points_N != NO_POINT)
    numbers_M = record.points_N[seen_M]
    index_M = np.searchsorted(points.numbers_P, numbers_M)
    known_M = index_M < len(points.numbers_P)
    known_M[known_M] = points.numbers_P[index_M[known_M]] == numbers_M[known_M]
    if not known_M.all():
        raise damaged(path, f"{record.name}: point {numbers_M[~known_M][0]} is not in the model")
    with np.errstate(over="ignore"):
        length = np.linalg.norm(record.quaternion_4)
    if not (np.isfinite(length) and length > 0):
        return unusable_image(record.name, camera, "damaged pose")
    T_cam_world = np.eye(4)
    rotation = Rotation.from_quat(record.quaternion_4, scalar_first=True)
    T_cam_world[:3, :3] = rotation.as_matrix()
    T_cam_world[:3, 3] = record.translation_3
    # The centre of the top-left pixel is (0.5, 0.5) in COLMAP and (0, 0) here.
    pixels_M2 = record.pixels_N2[seen_M] - 0.5
    return posed_image(record.name, camera, T_cam_world, points.points_P3, index_M, pixels_M2)
