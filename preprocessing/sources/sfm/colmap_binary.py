"""Reader of COLMAP's binary sparse models.

The format is that of ``read_model_binary`` in COLMAP's ``read_write_model.py``.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ucn.preprocessing.sources.sfm.colmap_cameras import pinhole_like_models
from ucn.preprocessing.sources.sfm.colmap_records import (
    CameraRecord,
    ImageRecord,
    PointRecords,
    damaged,
)

_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<iiQQ")
_IMAGE = struct.Struct("<i7di")
# ID, position, colour, error, length of the track.
_POINT = struct.Struct("<q3d3xdQ")
_TRACK_ELEMENT = 8
_POINT_HEAD = np.dtype([("number", "<i8"), ("point", "<f8", 3)])
_DETECTION = np.dtype([("pixel", "<f8", 2), ("point", "<i8")])


class _Reader:
    """Reads successive values from a file.

    Its methods raise UserError at an unexpected end of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data = path.read_bytes()
        self._at = 0

    def values(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack_from(self._data, self._advance(layout.size))

    def doubles(self, count: int) -> tuple[float, ...]:
        return self.values(struct.Struct(f"<{count}d"))

    def text(self) -> str:
        """Reads a string up to the next zero byte."""
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise self._cut()
        start = self._advance(end + 1 - self._at)
        try:
            return self._data[start:end].decode("utf-8", "surrogateescape")
        except UnicodeDecodeError:
            raise damaged(self.path, f"no name at byte {start}") from None

    def array(self, dtype: np.dtype[Any], count: int) -> Any:
        start = self._advance(dtype.itemsize * count)
        return np.frombuffer(self._data, dtype, count, start)

    def starts(self, count: int, head: struct.Struct, element: int) -> list[int]:
        """Skips records, and returns where they start.

        A record is a head, whose last value is a number of elements, and these elements.
        """
        starts, at = [], self._at
        # Fast: a model has millions of points.
        length_at, read_length = head.size - _COUNT.size, _COUNT.unpack_from
        try:
            for _ in range(count):
                starts.append(at)
                at += head.size + element * read_length(self._data, at + length_at)[0]
        except (struct.error, OverflowError):
            raise self._cut() from None
        self._advance(at - self._at)
        return starts

    def records(self, starts_P: NDArray[np.intp], dtype: np.dtype[Any]) -> Any:
        """Reads a record at each of some positions."""
        if not len(starts_P):
            return np.zeros(0, dtype)
        bytes_N = np.frombuffer(self._data, np.uint8)
        windows = np.lib.stride_tricks.sliding_window_view(bytes_N, dtype.itemsize)
        return windows[starts_P].view(dtype)[:, 0]

    def finish(self) -> None:
        if self._at < len(self._data):
            raise damaged(self.path, f"{len(self._data) - self._at} bytes after its end")

    def _advance(self, size: int) -> int:
        start = self._at
        if start + size > len(self._data):
            raise self._cut()
        self._at = start + size
        return start

    def _cut(self) -> Exception:
        return damaged(self.path, f"cut short or damaged at byte {self._at}")


def read_cameras(path: Path) -> dict[int, CameraRecord]:
    """Read ``cameras.bin``: camera ID to camera.

    Raises:
        UserError: the file is damaged, or a camera model is unknown or panoramic.
    """
    models = {model.number: model for model in pinhole_like_models()}
    reader = _Reader(path)
    cameras = {}
    (count,) = reader.values(_COUNT)
    for _ in range(count):
        number, model_number, width, height = reader.values(_CAMERA)
        model = models.get(model_number)
        if model is None:
            raise damaged(path, f"camera {number}: model {model_number} has no pinhole image")
        parameters = reader.doubles(model.parameters)
        cameras[number] = CameraRecord(model.name, (width, height), parameters)
    reader.finish()
    return cameras


def read_images(path: Path) -> list[ImageRecord]:
    """Read ``images.bin``.

    Raises:
        UserError: the file is damaged.
    """
    reader = _Reader(path)
    images = []
    (count,) = reader.values(_COUNT)
    for _ in range(count):
        _, *pose, camera = reader.values(_IMAGE)
        name = reader.text()
        detections = reader.array(_DETECTION, *reader.values(_COUNT))
        images.append(
            ImageRecord(
                name,
                camera,
                np.array(pose[:4]),
                np.array(pose[4:]),
                detections["pixel"],
                detections["point"],
            )
        )
    reader.finish()
    return images


def read_points(path: Path) -> PointRecords:
    """Read ``points3D.bin``.

    Raises:
        UserError: the file is damaged.
    """
    reader = _Reader(path)
    (count,) = reader.values(_COUNT)
    starts_P = np.array(reader.starts(count, _POINT, _TRACK_ELEMENT), np.intp)
    reader.finish()
    records_P = reader.records(starts_P, _POINT_HEAD)
    return PointRecords(records_P["number"], records_P["point"])
