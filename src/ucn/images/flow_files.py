"""Readers of optical flow: Middlebury's ``.flo`` and KITTI's 16-bit PNG. Unknown flow is NaN."""

import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.errors import SkippedPair
from ucn.images.read import decode_any, is_cut_short

Flow = NDArray[np.float32]

_FLO_HEADER = struct.Struct("<fii")
_FLO_MAGIC = 202021.25
_FLO_UNKNOWN = 1e9
# KITTI stores flow in 1/64 pixels with an offset of 2^15.
_PNG_ZERO, _PNG_STEPS = 2**15, 64


def read_flow(path: Path, root: Path) -> Flow:
    """Reads a flow file: KITTI's format for ``.png``, Middlebury's for any other suffix.

    Args:
        path: the file.
        root: root of the dataset; error messages give the path relative to it.

    Returns:
        float32 [H, W, 2], flow in x and y, pixels; NaN in both where the flow is unknown.

    Raises:
        SkippedPair: the file is missing or damaged.
    """
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    try:
        return (
            _read_kitti_flow(path, name) if path.suffix.lower() == ".png" else _read_flo(path, name)
        )
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise SkippedPair("missing flow", name) from None
    except OSError as error:
        raise SkippedPair("damaged flow", f"{name}: {error.strerror}") from None


def _read_flo(path: Path, name: str) -> Flow:
    """Middlebury's format: magic, width, height, then u and v of each pixel, little-endian.

    Flow of 1e9 or more, and NaN, is unknown (Baker et al., "A Database and Evaluation Methodology
    for Optical Flow", IJCV 2011; its ``flowIO.cpp``).
    """
    data = path.read_bytes()
    if len(data) < _FLO_HEADER.size:
        raise SkippedPair("damaged flow", f"{name}: cut short in its header")
    magic, width, height = _FLO_HEADER.unpack_from(data)
    if magic != _FLO_MAGIC:
        raise SkippedPair("damaged flow", f"{name}: does not start as a .flo file")
    if width < 1 or height < 1:
        raise SkippedPair("damaged flow", f"{name}: of size {width}x{height}")
    expected = _FLO_HEADER.size + 8 * width * height
    if len(data) != expected:
        raise SkippedPair(
            "damaged flow", f"{name}: {len(data)} bytes; {width}x{height} takes {expected}"
        )
    values = np.frombuffer(data, "<f4", offset=_FLO_HEADER.size)
    flow_HW2: Flow = values.reshape(height, width, 2).copy()
    largest_HW = np.maximum(np.abs(flow_HW2[..., 0]), np.abs(flow_HW2[..., 1]))
    flow_HW2[~(largest_HW < _FLO_UNKNOWN)] = np.nan
    return flow_HW2


def _read_kitti_flow(path: Path, name: str) -> Flow:
    """KITTI's format: u, v and validity as the three channels of a 16-bit PNG."""
    data = path.read_bytes()
    if is_cut_short(data):
        raise SkippedPair("damaged flow", f"{name}: not a whole PNG")
    try:
        image = decode_any(data, cv2.IMREAD_UNCHANGED)
    except ValueError as error:
        raise SkippedPair("damaged flow", f"{name}: cannot be decoded ({error})") from None
    if image.dtype != np.uint16 or image.shape[2:] != (3,):
        raise SkippedPair("damaged flow", f"{name}: not a 16-bit PNG of three channels")
    # OpenCV reverses the order of the channels: validity, v, u.
    values_HW2 = image[..., :0:-1].astype(np.float32)
    flow_HW2: Flow = (values_HW2 - np.float32(_PNG_ZERO)) / np.float32(_PNG_STEPS)
    flow_HW2[image[..., 0] == 0] = np.nan
    return flow_HW2
