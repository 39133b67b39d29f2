"""Encodes a sample as members of a tar, and decodes it."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Literal

import cv2
import numpy as np

from ucn.arrays import Array
from ucn.images.read import decode_any, to_grey
from ucn.preprocessing.sample import Sample
from ucn.storage.array_files import read_npy, read_npz

ImageFormat = Literal["grey-png", "rgb-png", "rgb-jpeg"]

_JPEG_QUALITY = 95
# zlib's fastest level: on road images 7 % larger than the default, in a third of the time.
_PNG_COMPRESSION = 1


def image_suffix(image_format: ImageFormat) -> str:
    """File suffix of an encoded image, without the dot."""
    return "jpg" if image_format == "rgb-jpeg" else "png"


def encode_image(image: Array, image_format: ImageFormat) -> bytes:
    """Encodes uint8 [H, W] or RGB [H, W, 3]. Grey formats convert RGB by ITU-R BT.601."""
    if image_format == "grey-png":
        pixels = to_grey(image)
    else:
        code = cv2.COLOR_RGB2BGR if image.ndim == 3 else cv2.COLOR_GRAY2BGR
        pixels = cv2.cvtColor(image, code)
    if image_format == "rgb-jpeg":
        options = [
            cv2.IMWRITE_JPEG_QUALITY,
            _JPEG_QUALITY,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        ]
        encoded = cv2.imencode(".jpg", pixels, options)[1]
    else:
        encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION])[1]
    return encoded.tobytes()


def decode_image(data: bytes) -> Array:
    """Decodes an image to uint8 [H, W] grey or RGB [H, W, 3], as stored.

    Raises:
        ValueError: not an image, or larger than `ucn.images.read.MAX_PIXELS`.
    """
    image = decode_any(data, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint8:
        raise ValueError("not an 8-bit image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image


def encode_sample(
    sample: Sample, image_format: ImageFormat, images: Callable[[int], bytes]
) -> dict[str, bytes]:
    """Encodes one sample: tar members by suffix, sorted.

    Args:
        sample: the sample.
        image_format: format of the images; determines their suffix.
        images: returns the encoded image 0 or 1. Callers cache frames that are in several pairs.
    """
    suffix = image_suffix(image_format)
    members = {
        f"image0.{suffix}": images(0),
        f"image1.{suffix}": images(1),
        "json": (json.dumps(sample.metadata, sort_keys=True, allow_nan=False) + "\n").encode(),
        "matches.npy": _npy(sample.matches_N4.astype("<f4", copy=False)),
    }
    if sample.attributes:
        members["attributes.npz"] = _npz(sample.attributes)
    return dict(sorted(members.items()))


def decode_sample(key: str, members: Mapping[str, bytes]) -> Sample:
    """Decodes the members that :func:`encode_sample` returns.

    Raises:
        ValueError, KeyError: a member is missing or damaged.
    """
    images = {name.split(".")[0]: data for name, data in members.items() if "image" in name}
    attributes: dict[str, Array] = {}
    if "attributes.npz" in members:
        attributes = read_npz(members["attributes.npz"])
    metadata: dict[str, Any] = json.loads(members["json"])
    if not isinstance(metadata, dict):
        raise ValueError("metadata are no JSON object")
    return Sample(
        key=key,
        image0=decode_image(images["image0"]),
        image1=decode_image(images["image1"]),
        matches_N4=read_npy(members["matches.npy"]),
        metadata=metadata,
        attributes=attributes,
    )


def _npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _npz(arrays: Mapping[str, Array]) -> bytes:
    """Uncompressed .npz. ``ZipInfo``'s fixed default date keeps the bytes reproducible."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(arrays.items()):
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), _npy(array))
    return buffer.getvalue()
