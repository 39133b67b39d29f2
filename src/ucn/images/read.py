"""Reads images of common formats. OpenCV decodes them after Pillow has checked their size.

A file of a few kilobytes can decode to gigabytes, so images above `MAX_PIXELS` are refused.
"""

import io
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
_PNG = (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82")
_JPEG = (b"\xff\xd8\xff", b"\xff\xd9")


def read_photo(path: Path, root: Path) -> Array:
    """Reads an 8-bit image file: uint8 [H, W] grey or [H, W, 3] RGB.

    The EXIF orientation is not applied: poses, flow and keypoints refer to the stored pixels.

    Args:
        path: the file.
        root: root of the dataset; error messages give the path relative to it.

    Raises:
        SkippedPair: the file is missing, unreadable, truncated, too large or not an 8-bit image,
            or a ``..`` in its name leads out of the root.
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
    for start, end in (_PNG, _JPEG):
        if data.startswith(start) and end not in data[-1024:]:
            raise SkippedPair("damaged image", f"{name}: cut short")
    return decode_photo(data, name)


def decode_photo(data: bytes, name: str) -> Array:
    """Decodes an encoded 8-bit image: uint8 [H, W] grey or [H, W, 3] RGB.

    Raises:
        SkippedPair: the image is damaged, too large, or not an 8-bit image.
    """
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = decode_any(data, flags)
    except ValueError as error:
        raise SkippedPair("damaged image", f"{name}: cannot be decoded ({error})") from None
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


def image_size(data: bytes) -> tuple[int, int]:
    """Reads width and height from the header of an encoded image, without decoding it.

    Raises:
        ValueError: the format is not PNG, JPEG, WebP, TIFF, BMP, GIF or Netpbm, or the image is
            larger than `MAX_PIXELS`.
    """
    too_large = f"more than {MAX_PIXELS // 10**6} megapixels"
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
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
