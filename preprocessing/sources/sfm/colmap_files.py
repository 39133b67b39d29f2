"""COLMAP's sparse models: ``cameras``, ``images`` and ``points3D``, as ``.bin`` or ``.txt``.

The format is documented in COLMAP's "Output Format". The rigs and frames of newer models are not
read, because each image has its own pose in these models, too.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ucn.arrays import Floats
from ucn.errors import UserError
from ucn.geometry.sfm_model import SfmCamera, SfmImage, SfmModel, posed_images
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
# Images whose observations are processed together. 1,000,000 observations take 300 MB.
_BLOCK = 256


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
    images = [
        image
        for start in range(0, len(records), _BLOCK)
        for image in _images(records[start : start + _BLOCK], cameras, points, paths[1])
    ]
    return SfmModel(tuple(images), points.points_P3, points.numbers_P)


def _camera(number: int, record: CameraRecord, path: Path) -> SfmCamera:
    if not all(1 <= side <= _LONGEST_SIDE for side in record.size):
        width, height = record.size
        raise damaged(path, f"camera {number}: images of {width}x{height} pixels")
    return colmap_camera(record.model, record.size, record.parameters)


def _sorted(points: PointRecords) -> PointRecords:
    order_P = np.argsort(points.numbers_P, kind="stable")
    return PointRecords(points.numbers_P[order_P], points.points_P3[order_P])


def _images(
    records: list[ImageRecord], cameras: dict[int, SfmCamera], points: PointRecords, path: Path
) -> list[SfmImage]:
    for record in records:
        if not Path(record.name).name or "\0" in record.name:
            raise damaged(path, f"{record.name!r} is not an image's name")
        if record.camera not in cameras:
            raise damaged(path, f"{record.name}: camera {record.camera} is not in the model")
    numbers_N = np.concatenate([record.points_N for record in records])
    pixels_N2 = np.concatenate([record.pixels_N2 for record in records])
    image_N = np.repeat(np.arange(len(records)), [len(record.points_N) for record in records])
    seen_M = np.flatnonzero(numbers_N != NO_POINT)
    numbers_M, image_M = numbers_N[seen_M], image_N[seen_M]
    index_M = np.searchsorted(points.numbers_P, numbers_M)
    known_M = index_M < len(points.numbers_P)
    known_M[known_M] = points.numbers_P[index_M[known_M]] == numbers_M[known_M]
    if not known_M.all():
        first = np.flatnonzero(~known_M)[0]
        name = records[image_M[first]].name
        raise damaged(path, f"{name}: point {numbers_M[first]} is not in the model")
    return posed_images(
        [record.name for record in records],
        [cameras[record.camera] for record in records],
        _poses(records),
        points.points_P3,
        np.bincount(image_M, minlength=len(records)),
        index_M,
        # The centre of the top-left pixel is (0.5, 0.5) in COLMAP and (0, 0) here.
        pixels_N2[seen_M] - 0.5,
    )


def _poses(records: list[ImageRecord]) -> Floats:
    """T_cam_world [I, 4, 4]; NaN where the quaternion is damaged."""
    quaternions_I4 = np.array([record.quaternion_4 for record in records])
    with np.errstate(over="ignore"):
        length_I = np.linalg.norm(quaternions_I4, axis=1)
    good_I = np.isfinite(length_I) & (length_I > 0)
    T_I44 = np.tile(np.eye(4), (len(records), 1, 1))
    T_I44[~good_I] = np.nan
    rotations = Rotation.from_quat(quaternions_I4[good_I], scalar_first=True)
    T_I44[good_I, :3, :3] = rotations.as_matrix()
    T_I44[:, :3, 3] = [record.translation_3 for record in records]
    return T_I44
