"""Readers of disparity files against bytes that the tests make on their own."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from ucn.errors import SkippedPair
from ucn.images.disparity_files import read_disparity

# Two rows of three pixels, the bottom row first, as the format has it.
BOTTOM, TOP = [1.5, -2.0, 0.0], [7.25, float("inf"), float("nan")]
EXPECTED = [[7.25, np.nan, np.nan], [1.5, -2, 0]]


def read(path: Path, data: bytes) -> np.ndarray:
    path.write_bytes(data)
    return read_disparity(path, path.parent)


@pytest.mark.parametrize(
    ("header", "order"),
    [
        (b"Pf\n3 2\n-1\n", "<"),
        (b"Pf\n3 2\n-0.003922\n", "<"),
        (b"Pf\n3 2\n1.0\n", ">"),
        (b"Pf 3\n2 255 ", ">"),
    ],
)
def test_pfm_of_one_channel(tmp_path: Path, header: bytes, order: str) -> None:
    data = header + struct.pack(f"{order}6f", *BOTTOM, *TOP)
    disparity = read(tmp_path / "a.PFM", data)
    assert disparity.dtype == np.float32
    np.testing.assert_array_equal(disparity, EXPECTED)


def test_pfm_of_three_channels_has_the_disparity_in_the_first(tmp_path: Path) -> None:
    values = [one for value in BOTTOM + TOP for one in (value, 100, 200)]
    data = b"PF\n3 2\n-1\n" + struct.pack("<18f", *values)
    np.testing.assert_array_equal(read(tmp_path / "a.pfm", data), EXPECTED)


VALUES = bytes(24)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Pf\n3 2\n-1\n" + VALUES[:-1],
        b"Pf\n3 2\n-1\n" + VALUES + b"\0",
        b"PF\n3 2\n-1\n" + VALUES,
        b"P5\n3 2\n-1\n" + VALUES,
        b"Pf\n3 -2\n-1\n" + VALUES,
        b"Pf\n0 2\n-1\n",
        b"Pf\n999999999 999999999\n-1\n" + VALUES,
        b"Pf\n3 2\n0\n" + VALUES,
        b"Pf\n3 2\nnan\n" + VALUES,
        b"Pf\n3 2\nsmall\n" + VALUES,
        b"Pf\n3 2\n",
    ],
)
def test_damaged_pfm_names_the_file(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SkippedPair) as caught:
        read(tmp_path / "a.pfm", data)
    assert caught.value.reason == "damaged disparity"
    assert caught.value.detail.startswith("a.pfm: ")


def test_png_of_16_bits(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 256], [65535, 384, 2]], np.uint16)
    data = cv2.imencode(".png", stored)[1].tobytes()
    disparity = read(tmp_path / "a.PNG", data)
    np.testing.assert_array_equal(disparity, [[np.nan, 1 / 256, 1], [65535 / 256, 1.5, 1 / 128]])
    for damaged in (data[:-8], b"x", cv2.imencode(".png", stored.astype(np.uint8))[1].tobytes()):
        with pytest.raises(SkippedPair, match="damaged disparity"):
            read(tmp_path / "b.png", damaged)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(SkippedPair, match="missing disparity"):
        read_disparity(tmp_path / "none.pfm", tmp_path)
    (tmp_path / "folder.pfm").mkdir()
    with pytest.raises(SkippedPair, match=r"folder\.pfm: Is a directory"):
        read_disparity(tmp_path / "folder.pfm", tmp_path)
