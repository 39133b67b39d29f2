"""Readers of flow files against bytes and images that the tests make on their own."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.errors import SkippedPair
from ucn.images.flow_files import read_flow


def flo_bytes(width: int, height: int, values: list[float]) -> bytes:
    return b"PIEH" + struct.pack(f"<ii{len(values)}f", width, height, *values)


def png_bytes(width: int, height: int, rgb: list[tuple[int, int, int]]) -> bytes:
    """A 16-bit RGB PNG as the specification has it (RFC 2083): big-endian, filter 0 a row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(
        b"\0" + b"".join(struct.pack(">3H", *one) for one in rgb[start : start + width])
        for start in range(0, len(rgb), width)
    )
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_flo_is_row_by_row_u_before_v_and_large_values_are_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.flo"
    path.write_bytes(flo_bytes(2, 2, [1.5, -2, 3, 4, 1.7e9, 0, 7, -1.7e9]))
    nan = np.nan
    expected = [[[1.5, -2], [3, 4]], [[nan, nan], [nan, nan]]]
    np.testing.assert_array_equal(read_flow(path, tmp_path), np.array(expected, np.float32))


def test_kitti_png_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    # 32768 + 64 * 10.5 and 32768 - 64 * 3.25; the third pixel is invalid.
    rgb = [(33440, 32560, 1), (32768, 32768, 1), (40000, 40000, 0), (0, 65535, 1)]
    path.write_bytes(png_bytes(2, 2, rgb))
    nan = np.nan
    expected = [[[10.5, -3.25], [0, 0]], [[nan, nan], [-512, 511.984375]]]
    np.testing.assert_array_equal(read_flow(path, tmp_path), np.array(expected, np.float32))


@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 40), height=st.integers(1, 40))
def test_any_flow_comes_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, width: int, height: int
) -> None:
    folder = tmp_path_factory.mktemp("flow")
    rng = np.random.default_rng(seed)
    steps = rng.integers(-(2**15), 2**15, (height, width, 2))
    valid = rng.random((height, width)) < 0.7
    expected = np.where(valid[..., None], steps / 64, np.nan).astype(np.float32)
    flo = np.where(valid[..., None], steps / 64, 1e10)
    (folder / "a.flo").write_bytes(flo_bytes(width, height, flo.ravel().tolist()))
    rgb = np.dstack([steps + 2**15, valid]).reshape(-1, 3).tolist()
    (folder / "a.png").write_bytes(png_bytes(width, height, rgb))
    for name in ("a.flo", "a.png"):
        np.testing.assert_array_equal(read_flow(folder / name, folder), expected)


SOUND_FLO = flo_bytes(3, 2, [0.0] * 12)
SOUND_PNG = png_bytes(3, 2, [(32768, 32768, 1)] * 6)


def encode(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.flo", b"", "cut short in its header"),
        ("a.flo", SOUND_FLO[:11], "cut short in its header"),
        ("a.flo", b"PIEG" + SOUND_FLO[4:], "does not start as a .flo file"),
        ("a.flo", struct.pack(">fii", 202021.25, 3, 2) + SOUND_FLO[12:], "does not start"),
        ("a.flo", flo_bytes(0, 2, []), "of size 0x2"),
        ("a.flo", flo_bytes(-3, -2, [0.0] * 12), "of size -3x-2"),
        ("a.flo", flo_bytes(2**31 - 1, 2**31 - 1, []), "2147483647x2147483647 takes"),
        ("a.flo", SOUND_FLO[:-1], "59 bytes; 3x2 takes 60"),
        ("a.flo", SOUND_FLO + b"\0", "61 bytes; 3x2 takes 60"),
        ("a.png", b"not a picture", "cannot be decoded"),
        ("a.png", SOUND_PNG[:-20], "not a whole PNG"),
        ("a.png", SOUND_PNG[:30] + b"IEND\xaeB`\x82", "not a whole PNG"),
        ("a.png", png_bytes(2**30, 2**30, []), "cannot be decoded"),
        ("a.png", encode(np.zeros((2, 3, 3), np.uint8)), "not a 16-bit PNG of three channels"),
        ("a.png", encode(np.zeros((2, 3), np.uint16)), "not a 16-bit PNG of three channels"),
        ("a.png", encode(np.zeros((2, 3, 4), np.uint16)), "not a 16-bit PNG of three channels"),
    ],
)
def test_damage_is_told(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / "flow").mkdir()
    path = tmp_path / "flow" / name
    path.write_bytes(data)
    with pytest.raises(SkippedPair) as caught:
        read_flow(path, tmp_path)
    assert caught.value.reason == "damaged flow"
    assert caught.value.detail.startswith(f"flow/{name}: ")
    assert said in caught.value.detail


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir])
@pytest.mark.parametrize("name", ["a.flo", "a.png"])
def test_absence_is_told(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    make(tmp_path / name)
    with pytest.raises(SkippedPair, match=f"^missing flow: {name}$"):
        read_flow(tmp_path / name, tmp_path)
