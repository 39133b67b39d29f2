"""Reads images of common formats. OpenCV decodes them after Pillow has checked their size.

A file of a few kilobytes can decode to gigabytes, so images above `MAX_PIXELS` are refused.
"""

import io
import re
import struct
import warnings
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import Image

from ucn.arrays import Array
from ucn.errors import SkippedPair

MAX_PIXELS = 178_956_970
"""Limit of width x height: Pillow's default. The largest cameras have 150 megapixels."""

# Pillow warns above half of its limit. Set once, since readers run in several threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_JPEG_MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)
_JPEG_SCAN, _JPEG_END = b"\xda", b"\xff\xd9"


def read_photo(path: Path, root: Path, *, reduce: bool = True) -> Array:
    """Reads an image file: uint8 [H, W] grey or [H, W, 3] RGB. 16 bits are reduced to 8.

    The EXIF orientation is not applied: poses, flow and keypoints refer to the stored pixels.

    Args:
        path: the file.
        root: root of the dataset; error messages give the path relative to it.
        reduce: reduce 16 bits to 8; False refuses them, as labels must not be scaled.

    Raises:
        SkippedPair: the file is missing, unreadable, truncated, too large or has other than 8
            or 16 bits, or a ``..`` in its name leads out of the root.
    """
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    if ".." in PurePosixPath(name).parts:
        raise SkippedPair("foreign image", f"{name}: leads out of the dataset")
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise SkippedPair("missing image", name) from None
    except OSError as error:
        raise SkippedPair("unreadable image", f"{name}: {error.strerror}") from None
    # Decoders do not fail on a truncated file; they fill in the missing pixels.
    if is_cut_short(data):
        raise SkippedPair("damaged image", f"{name}: cut short")
    return decode_photo(data, name, reduce=reduce)


def is_cut_short(data: bytes) -> bool:
    """Whether a PNG or JPEG file ends before its end marker. More data may follow the marker.

    Phones append videos to photos, and some programs append padding.
    """
    if data.startswith(_PNG):
        position, kind = len(_PNG), b""
        while kind != b"IEND" and position + 8 <= len(data):
            length, kind = struct.unpack_from(">I4s", data, position)
            position += length + 12
        return kind != b"IEND" or position > len(data)
    if data.startswith(_JPEG):
        position = 2
        while marker := _JPEG_MARKER.search(data, position):
            if marker[1] == _JPEG_SCAN:
                # The end marker cannot occur in entropy-coded data, but in a thumbnail before it.
                return data.rfind(_JPEG_END, marker.end()) < 0
            # The length of a segment includes its own two bytes.
            position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
        return True
    return False


def decode_photo(data: bytes, name: str, *, reduce: bool = True) -> Array:
    """Decodes an encoded image: uint8 [H, W] grey or [H, W, 3] RGB. 16 bits are reduced to 8.

    Raises:
        SkippedPair: the image is damaged, too large, or has other than 8 or 16 bits.
    """
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = decode_any(data, flags)
    except ValueError as error:
        raise SkippedPair("damaged image", f"{name}: cannot be decoded ({error})") from None
    if reduce and image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=255 / 65535)
    if image.dtype != np.uint8:
        raise SkippedPair("damaged image", f"{name}: cannot be decoded to 8 bits")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image


def decode_any(data: bytes, flags: int) -> Array:
    """Decodes an encoded image with OpenCV's ``flags``.

    Raises:
        ValueError: the image is damaged, of an unknown format, or larger than `MAX_PIXELS`.
    """
    size = image_size(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    # OpenCV and Pillow may read different sizes from a damaged header. An EXIF orientation may
    # swap the sides.
    if image is None or sorted(image.shape[:2]) != sorted(size):
        raise ValueError("damaged")
    return image


def image_size(source: bytes | Path) -> tuple[int, int]:
    """Reads width and height from the header of an encoded image or its file, without decoding.

    Raises:
        OSError: the file cannot be read.
        ValueError: the format is not PNG, JPEG, WebP, TIFF, BMP, GIF or Netpbm, or the image is
            larger than `MAX_PIXELS`.
    """
    too_large = f"more than {MAX_PIXELS // 10**6} megapixels"
    file = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
    try:
        with file, Image.open(file, formats=_FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise ValueError(too_large) from None
    except Exception:  # noqa: BLE001 - Pillow raises exceptions of many kinds for damaged files
        raise ValueError("not a PNG, JPEG, WebP, TIFF, BMP, GIF or Netpbm image") from None
    if width < 1 or height < 1:
        raise ValueError("damaged header")
    # A program that uses this package may have changed Pillow's limit.
    if width * height > MAX_PIXELS:
        raise ValueError(too_large)
    return width, height


def to_grey(image: Array) -> Array:
    """Luma (ITU-R BT.601) of a uint8 image [H, W, 3] RGB; [H, W] is returned unchanged."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
