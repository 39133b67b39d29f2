"""Readers of disparity: PFM (Middlebury, ETH3D, SceneFlow) and KITTI's 16-bit PNG."""

import math
import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.errors import SkippedPair
from ucn.images.read import decode_any, is_cut_short

Disparity = NDArray[np.float32]

# One whitespace character separates the header from the values.
_PFM_HEADER = re.compile(rb"P([Ff])\s+(\d{1,9})\s+(\d{1,9})\s+(\S{1,32})\s")
# KITTI's development kits: 1/256 pixels, 0 is unknown.
_PNG_STEPS = 256


def read_disparity(path: Path, root: Path) -> Disparity:
    """Reads a disparity file: KITTI's format for ``.png``, PFM for any other suffix.

    Args:
        path: the file.
        root: root of the dataset; error messages give the path relative to it.

    Returns:
        float32 [H, W], pixels; NaN where the disparity is unknown.

    Raises:
        SkippedPair: the file is missing or damaged.
    """
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    try:
        data = path.read_bytes()
        return _decode_png(data) if path.suffix.lower() == ".png" else _decode_pfm(data)
    except FileNotFoundError:
        raise SkippedPair("missing disparity", name) from None
    except OSError as error:
        raise SkippedPair("damaged disparity", f"{name}: {error.strerror}") from None
    except ValueError as error:
        raise SkippedPair("damaged disparity", f"{name}: {error}") from None


def _decode_pfm(data: bytes) -> Disparity:
    """Portable float map: rows from the bottom to the top; a negative scale is little-endian.

    The magnitude of the scale is for display. Of three channels, the first is the disparity.
    """
    header = _PFM_HEADER.match(data)
    if header is None:
        raise ValueError("no header of a PFM file: PF or Pf, width, height and scale")
    channels, width, height = 3 if header[1] == b"F" else 1, int(header[2]), int(header[3])
    scale = float(header[4])
    if scale == 0 or not math.isfinite(scale):
        raise ValueError(f"the scale is {scale}, not positive or negative")
    expected = header.end() + 4 * channels * width * height
    if len(data) != expected or expected == header.end():
        raise ValueError(f"{len(data)} bytes; {width}x{height}x{channels} takes {expected}")
    order = "<f4" if scale < 0 else ">f4"
    values_HWC = np.frombuffer(data, order, offset=header.end()).reshape(height, width, channels)
    disparity_HW: Disparity = values_HWC[::-1, :, 0].astype(np.float32)
    disparity_HW[~np.isfinite(disparity_HW)] = np.nan
    return disparity_HW


def _decode_png(data: bytes) -> Disparity:
    if is_cut_short(data):
        raise ValueError("not a whole PNG")
    image = decode_any(data, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint16 or image.ndim != 2:
        raise ValueError("not a 16-bit PNG of one channel")
    disparity_HW: Disparity = image.astype(np.float32) / np.float32(_PNG_STEPS)
    disparity_HW[image == 0] = np.nan
    return disparity_HW
