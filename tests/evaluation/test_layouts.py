from pathlib import Path

import cv2
import numpy as np
import pytest

from evaluation.layouts.brown import read_pairs, read_patches, read_points
from evaluation.layouts.hpatches import LARGE_SCENES, list_hpatches
from evaluation.layouts.oxford_affine import list_oxford_affine
from evaluation.layouts.planar import read_homography, read_images
from preprocessing.errors import UserError

H_LINES = "  1.5e+00 0.0 -3.25\n 0.0 1.0 2.0\n 1e-4 0 1\n"
MATRIX = [[1.5, 0, -3.25], [0, 1, 2], [1e-4, 0, 1]]


def write_image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((6, 8, 3), (value, 0, 0), np.uint8))


def write_hpatches(root: Path, scene: str) -> Path:
    for number in range(1, 7):
        write_image(root / scene / f"{number}.ppm", number)
    for number in range(2, 7):
        (root / scene / f"H_1_{number}").write_text(H_LINES.replace("-3.25", str(number)))
    return root / scene


def test_hpatches_lists_five_pairs_a_scene(tmp_path: Path) -> None:
    write_hpatches(tmp_path, "v_wall")
    write_hpatches(tmp_path, "i_ajuntament")
    (tmp_path / "notes").mkdir()
    pairs = list_hpatches(tmp_path)
    keys = [f"{scene}/1_{k}" for scene in ("i_ajuntament", "v_wall") for k in range(2, 7)]
    assert [pair.key for pair in pairs] == keys
    assert [pair.H_1_0[0, 2] for pair in pairs] == [2, 3, 4, 5, 6] * 2
    image0, image1 = read_images(pairs[-1])
    # Stored as BGR, read as RGB.
    assert (image0[0, 0].tolist(), image1[0, 0].tolist()) == ([0, 0, 1], [0, 0, 6])
    assert {pair.sequence for pair in list_hpatches(tmp_path, {"v_wall"})} == {"i_ajuntament"}
    assert len(LARGE_SCENES) == 116 - 108


def test_hpatches_faults(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        list_hpatches(tmp_path / "absent")
    with pytest.raises(UserError, match="no folders"):
        list_hpatches(tmp_path)
    scene = write_hpatches(tmp_path, "v_wall")
    (scene / "4.ppm").write_bytes(b"P6 cut")
    with pytest.raises(UserError, match=r"v_wall/4\.ppm"):
        read_images(list_hpatches(tmp_path)[2])
    (scene / "4.ppm").unlink()
    with pytest.raises(UserError, match=r"4\.ppm: missing"):
        list_hpatches(tmp_path)


def test_oxford_lists_what_has_a_homography(tmp_path: Path) -> None:
    for number in (1, 2, 3, 10):
        write_image(tmp_path / "graf" / f"img{number}.png", number)
    for number in (10, 2):
        (tmp_path / "graf" / f"H1to{number}p").write_text(H_LINES)
    pairs = list_oxford_affine(tmp_path)
    assert [pair.key for pair in pairs] == ["graf/1_2", "graf/1_10"]
    assert pairs[0].H_1_0.tolist() == MATRIX
    assert read_images(pairs[1])[1][0, 0].tolist() == [0, 0, 10]
    (tmp_path / "graf" / "img2.png").unlink()
    with pytest.raises(UserError, match="no image img2"):
        list_oxford_affine(tmp_path)


def test_oxford_without_homographies(tmp_path: Path) -> None:
    write_image(tmp_path / "graf" / "img1.ppm", 1)
    with pytest.raises(UserError, match="H1to2p"):
        list_oxford_affine(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "1 2 3", "a b c d e f g h i", "1 0 0 0 1 0 0 0 nan", "1 0 0 0 1 0 0 0 0"]
)
def test_damaged_homographies_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "H_1_2"
    path.write_text(text)
    with pytest.raises(UserError, match=r"H_1_2: .*; restore"):
        read_homography(path)
    with pytest.raises(UserError, match="absent"):
        read_homography(tmp_path / "absent")


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
    write_image(folder / "patches0001.bmp", 3)
    with pytest.raises(UserError, match="8 x 6 pixels"):
        read_patches(folder, np.array([256]))
    with pytest.raises(UserError, match="absent"):
        read_pairs(folder, "absent.txt")
