"""How large an encoded image says it is, read before it is decoded.

A few kilobytes can decode to gigabytes. The headers are those of the PNG, JPEG (ITU-T T.81), WebP
(RFC 9649), TIFF 6.0, BMP, GIF and Netpbm specifications.
"""

import re
import struct

MAX_PIXELS = 200_000_000
"""Of one image: 600 MB as 8-bit RGB. The largest cameras have 150 megapixels."""

_PNG = b"\x89PNG\r\n\x1a\n"
_NETPBM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s")
# Frames of a JPEG: SOF0 to SOF15 without DHT, JPG and DAC.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers that stand alone: TEM, and RST0 to EOI.
_ALONE = frozenset({0x01, *range(0xD0, 0xDA)})
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257

Size = tuple[int, int]


def check_image_size(data: bytes) -> None:
    """Refuse an image that is too large, or of a kind whose size is not known.

    Raises:
        ValueError: says which.
    """
    size = declared_size(data)
    if size is None:
        raise ValueError("not a PNG, JPEG, WebP, TIFF, BMP, GIF or Netpbm image")
    width, height = size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, more than {MAX_PIXELS // 10**6} megapixels")


def declared_size(data: bytes) -> Size | None:
    """(width, height) in the header of an image; None where there is no such header."""
    try:
        if data.startswith(_PNG):
            width, height = struct.unpack_from(">II", data, 16)
            return width, height
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(data)
        if data.startswith(b"BM"):
            return _bmp(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack_from("<HH", data, 6)
            return width, height
    except struct.error:
        return None
    netpbm = _NETPBM.match(data[:4096])
    return (int(netpbm[1]), int(netpbm[2])) if netpbm else None


def _jpeg(data: bytes) -> Size | None:
    """Of the first frame; segments before it are skipped by their length."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            # Decoders go on at the next marker.
            at = data.find(b"\xff", at)
            if at < 0:
                return None
            continue
        marker = data[at + 1]
        if marker in (0x00, 0xFF) or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return None


def _webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None


def _tiff(data: bytes) -> Size | None:
    """Of the first page; of values that are given twice the largest counts."""
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    found = {_TIFF_WIDTH: 0, _TIFF_HEIGHT: 0}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        if tag in found:
            # SHORT, else LONG.
            (value,) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, at + 8)
            found[tag] = max(found[tag], value)
    width, height = found[_TIFF_WIDTH], found[_TIFF_HEIGHT]
    return (width, height) if width and height else None


def _bmp(data: bytes) -> Size:
    (header,) = struct.unpack_from("<I", data, 14)
    # OS/2's header has half the width; rows from the top down have a negative height.
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(width), abs(height)
