from pathlib import Path

import cv2
import numpy as np
import pytest

from ucn.errors import UserError
from ucn.evaluation.scores.brown_patches import read_pairs, read_patches, read_points


@pytest.fixture
def brown(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """300 patches on two sheets, points of three patches each, and a list of four pairs."""
    patches = np.random.default_rng(0).integers(0, 256, (300, 64, 64), np.uint8)
    for sheet in range(2):
        pixels = np.zeros((1024, 1024), np.uint8)
        for place, patch in enumerate(patches[256 * sheet : 256 * (sheet + 1)]):
            row, column = divmod(place, 16)
            pixels[64 * row : 64 * row + 64, 64 * column : 64 * column + 64] = patch
        assert cv2.imwrite(str(tmp_path / f"patches{sheet:04d}.bmp"), pixels)
    (tmp_path / "info.txt").write_text("".join(f"{number // 3} 0\n" for number in range(300)))
    (tmp_path / "m50_4_4_0.txt").write_text(
        "0 0 0 2 0 0 0\n299 99 0 1 0 0 0\n257 85 0 255 85 0 0\n5 1 0 6 2 0 0\n"
    )
    return tmp_path, patches


def test_brown_pairs_and_patches(brown: tuple[Path, np.ndarray]) -> None:
    folder, patches = brown
    assert read_points(folder).tolist() == [number // 3 for number in range(300)]
    pairs = read_pairs(folder, "m50_4_4_0.txt")
    assert pairs.first_N.tolist() == [0, 299, 257, 5]
    assert pairs.second_N.tolist() == [2, 1, 255, 6]
    assert pairs.same_N.tolist() == [True, False, True, False]
    numbers = np.array([299, 0, 17, 255, 256, 0])
    np.testing.assert_array_equal(read_patches(folder, numbers), patches[numbers])


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("0 0 0 300 100 0 0", "patch 300"),
        ("0 0 0 2 1 0 0", "other points"),
        ("0 0 0", "other columns"),
        ("0 0 0 x 0 0 0", "other columns"),
        ("-1 0 0 2 0 0 0", "negative"),
        ("", "empty|other columns"),
    ],
)
def test_damaged_lists_are_named(brown: tuple[Path, np.ndarray], line: str, cause: str) -> None:
    (brown[0] / "bad.txt").write_text(line)
    with pytest.raises(UserError, match=rf"bad\.txt: .*({cause})"):
        read_pairs(brown[0], "bad.txt")


def test_damaged_sheets_are_named(brown: tuple[Path, np.ndarray]) -> None:
    folder, _ = brown
    with pytest.raises(UserError, match=r"patches0002\.bmp: missing"):
        read_patches(folder, np.array([512]))
    assert cv2.imwrite(str(folder / "patches0001.bmp"), np.full((6, 8, 3), 3, np.uint8))
    with pytest.raises(UserError, match="8 x 6 pixels"):
        read_patches(folder, np.array([256]))
    with pytest.raises(UserError, match="absent"):
        read_pairs(folder, "absent.txt")
