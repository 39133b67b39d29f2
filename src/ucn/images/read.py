"""Reading photographs of any common format, with damage told apart from absence."""

from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from ucn.arrays import Array
from ucn.errors import SkippedPair
from ucn.images.size import check_image_size

_PNG = (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82")
_JPEG = (b"\xff\xd8\xff", b"\xff\xd9")


def read_photo(path: Path, root: Path) -> Array:
    """Read an 8-bit image: uint8 [H, W] grey or [H, W, 3] RGB.

    An orientation in EXIF is not applied: poses, flow and keypoints refer to the stored pixels.

    Args:
        path: the file.
        root: of the dataset; messages name the file below it.

    Raises:
        SkippedPair: missing, unreadable, cut, too large, not an 8-bit image, or outside the root
            by a name that leads upwards.
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
    # Decoders fill up what a cut file lacks instead of failing.
    for start, end in (_PNG, _JPEG):
        if data.startswith(start) and end not in data[-1024:]:
            raise SkippedPair("damaged image", f"{name}: cut short")
    return decode_photo(data, name)


def decode_photo(data: bytes, name: str) -> Array:
    """Decode an encoded 8-bit image: uint8 [H, W] grey or [H, W, 3] RGB.

    Raises:
        SkippedPair: not an 8-bit image, or too large a one.
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
    """Decode an encoded image as OpenCV's ``flags`` say, unless its header says it is too large.

    Raises:
        ValueError: too large, or no image.
    """
    check_image_size(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise ValueError("damaged")
    return image
