"""Photos: where a file ends, and how many bits it has."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ucn.errors import SkippedPair
from ucn.images.read import is_cut_short, read_photo


def noise(width: int = 48, height: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise()).save(buffer, kind, **options)
    return buffer.getvalue()


def with_thumbnail() -> bytes:
    """A JPEG whose EXIF segment holds another JPEG, with an end marker of its own."""
    small = io.BytesIO()
    Image.fromarray(noise(8, 8)).save(small, "JPEG")
    segment = b"Exif\0\0" + small.getvalue()
    data = encoded("JPEG")
    return data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]


FILES = {
    "baseline": encoded("JPEG"),
    "progressive": encoded("JPEG", progressive=True),
    "restart": encoded("JPEG", restart_marker_blocks=2),
    "thumbnail": with_thumbnail(),
    "png": encoded("PNG"),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
@pytest.mark.parametrize("more", [b"", bytes(5000), b"\0\0\0\x18ftypmp42" * 400])
def test_what_follows_the_end_is_no_damage(tmp_path: Path, data: bytes, more: bytes) -> None:
    path = tmp_path / "photo"
    path.write_bytes(data + more)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    assert np.abs(read_photo(path, tmp_path).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_every_cut_is_seen(data: bytes) -> None:
    assert [n for n in range(8, len(data)) if not is_cut_short(data[:n])] == []


def test_a_cut_photo_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(FILES["thumbnail"][:-600])
    with pytest.raises(SkippedPair, match=r"damaged image: a\.jpg: cut short"):
        read_photo(tmp_path / "a.jpg", tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bits_become_8(tmp_path: Path, name: str) -> None:
    image = noise()
    cv2.imwrite(str(tmp_path / name), image[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_photo(tmp_path / name, tmp_path), image)
    with pytest.raises(SkippedPair, match="cannot be decoded to 8 bits"):
        read_photo(tmp_path / name, tmp_path, reduce=False)
