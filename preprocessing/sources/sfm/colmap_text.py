"""Reader of COLMAP's sparse models as text.

The format is that of ``read_model_text`` in COLMAP's ``read_write_model.py``.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ucn.arrays import Floats
from ucn.errors import UserError
from ucn.preprocessing.sources.input_files import read_lines
from ucn.preprocessing.sources.sfm.colmap_cameras import pinhole_like_models
from ucn.preprocessing.sources.sfm.colmap_records import (
    CameraRecord,
    ImageRecord,
    PointRecords,
    damaged,
)

# IDs of points are read as float64, which is exact up to this number.
_LARGEST = 2**53


def read_cameras(path: Path) -> dict[int, CameraRecord]:
    """Read ``cameras.txt``: camera ID to camera.

    Raises:
        UserError: the file is damaged, or a camera model is unknown or panoramic.
    """
    models = {model.name: model for model in pinhole_like_models()}
    cameras = {}
    for line, text in _lines(path):
        try:
            number, name, width, height, *rest = text.split()
            camera = CameraRecord(name, (int(width), int(height)), tuple(map(float, rest)))
            model = models.get(name)
            cameras[int(number)] = camera
        except ValueError:
            raise _bad_line(path, line, "CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS") from None
        if model is None:
            raise damaged(path, f"line {line}: camera model {name} has no pinhole image")
        if len(rest) != model.parameters:
            raise _bad_line(path, line, f"{model.parameters} parameters of {name}")
    return cameras


def read_images(path: Path) -> list[ImageRecord]:
    """Read ``images.txt``.

    Raises:
        UserError: the file is damaged.
    """
    lines = _lines(path, keep_empty=True)
    images = []
    for line, text in lines:
        if not text.strip():
            continue
        try:
            _, *pose, camera, name = text.strip().split(maxsplit=9)
            pose_7 = np.array(pose, np.float64)
            number = int(camera)
        except ValueError:
            pose_7, number, name = np.zeros(0), 0, ""
        if len(pose_7) != 7:
            raise _bad_line(path, line, "IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME")
        detections_N3 = _detections(path, *next(lines, (line + 1, None)))
        images.append(
            ImageRecord(
                name,
                number,
                pose_7[:4],
                pose_7[4:],
                detections_N3[:, :2],
                detections_N3[:, 2].astype(np.int64),
            )
        )
    return images


def read_points(path: Path) -> PointRecords:
    """Read ``points3D.txt``.

    Raises:
        UserError: the file is damaged.
    """
    numbers, points = [], []
    for line, text in _lines(path):
        # ID, position, colour, error, track as (IMAGE_ID, POINT2D_IDX).
        values = text.split()
        try:
            numbers.append(_number(values[0]))
            points.append((float(values[1]), float(values[2]), float(values[3])))
        except (ValueError, IndexError):
            values = []
        if len(values) < 8 or len(values) % 2:
            raise _bad_line(path, line, "POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK")
    return PointRecords(np.array(numbers, np.int64), np.array(points, np.float64).reshape(-1, 3))


def _lines(path: Path, *, keep_empty: bool = False) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not a comment."""
    try:
        lines = read_lines(path)
    except ValueError:
        raise damaged(path, "not a text file") from None
    for number, text in enumerate(lines, 1):
        if not text.startswith("#") and (keep_empty or text.strip()):
            yield number, text


def _detections(path: Path, line: int, text: str | None) -> Floats:
    """Rows x, y, ID of the 3D point."""
    try:
        values = np.array("cut" if text is None else text.split(), np.float64)
        detections_N3 = values.reshape(-1, 3)
        if not (np.abs(detections_N3[:, 2]) < _LARGEST).all():
            raise ValueError
        return detections_N3
    except ValueError:
        raise _bad_line(path, line, "POINTS2D[] as (X, Y, POINT3D_ID)") from None


def _number(text: str) -> int:
    number = int(text)
    if not 0 <= number < _LARGEST:
        raise ValueError
    return number


def _bad_line(path: Path, line: int, expected: str) -> UserError:
    return damaged(path, f"line {line}: not {expected}")
