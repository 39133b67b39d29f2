"""The colmap source on damaged models, images and cameras."""

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.preprocessing.sources.colmap_worlds import H, W, config, make_world, write_scene
from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.shards.verify import verify_dataset


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def put(position: int, layout: str, value: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        struct.pack_into(layout, data, position, value)
        path.write_bytes(data)

    return change


def replace(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("cameras.bin", Path.unlink, "no cameras, images, points3D"),
        ("cameras.bin", cut, r"cameras\.bin: cut short"),
        ("images.bin", cut, r"images\.bin: cut short"),
        ("points3D.bin", cut, r"points3D\.bin: cut short"),
        ("points3D.bin", lambda path: path.write_bytes(b""), r"points3D\.bin: cut short"),
        ("points3D.bin", put(51, "<Q", 2**62), r"points3D\.bin: cut short"),
        ("points3D.bin", put(0, "<Q", 2**63), r"points3D\.bin: cut short"),
        ("images.bin", lambda path: path.write_bytes(path.read_bytes() + b"x"), "after its end"),
        ("cameras.bin", put(0, "<Q", 2**63), "cut short"),
        ("cameras.bin", put(12, "<i", 99), "model 99 has no pinhole image"),
        ("cameras.bin", put(12, "<i", 17), "model 17 has no pinhole image"),
        ("cameras.bin", put(8, "<i", 4), "camera 3 is not in the model"),
        ("cameras.bin", put(16, "<Q", 2**40), "camera 3: images of 1099511627776x90 pixels"),
        ("cameras.bin", put(24, "<Q", 0), "camera 3: images of 120x0 pixels"),
        ("points3D.bin", put(8, "<Q", 5 * 10**6), "is not in the model"),
        ("cameras.txt", cut, r"cameras\.txt: line 3: not"),
        ("cameras.txt", replace("SIMPLE_RADIAL", "SPIRAL"), "SPIRAL has no pinhole image"),
        ("cameras.txt", replace("SIMPLE_RADIAL", "RADIAL"), "5 parameters of RADIAL"),
        ("images.txt", replace("cam0/a.b 0.png\n", "cam0/a.b 0.png"), r"images\.txt: line 3: not"),
        ("images.txt", replace("cam1/a.b 1.png", "cam0/a.b 0.png"), "stands twice"),
        ("images.txt", replace("cam1/a.b 1.png", "cam1\0/a.png"), "not a text file"),
        ("images.txt", replace("cam1/a.b 1.png", "."), "'.' is not an image's name"),
        ("points3D.txt", replace(" 1 2 3 0.5 ", " 1 2 3 "), r"points3D\.txt: line 2: not"),
        ("points3D.txt", replace("\n", f"\n{10**30}"), r"points3D\.txt: line 2: not"),
        ("images.txt", replace(" -1 ", " nan "), r"images\.txt: line 3: not"),
        ("images.txt", replace(" -1 ", " 1e300 "), r"images\.txt: line 3: not"),
        ("points3D.txt", lambda path: path.write_bytes(b"\0\1"), "not a text file"),
    ],
)
def test_damaged_models_are_one_line(
    tmp_path: Path, file: str, damage: Callable[[Path], object], message: str
) -> None:
    world = make_world(1, "SIMPLE_RADIAL")
    root = write_scene(tmp_path, world, binary=file.endswith("bin"))
    if file == "cameras.txt" and damage is cut:
        # Three characters less is a number still; this cuts a parameter off.
        path = root / "sparse" / file
        path.write_text(path.read_text().rstrip().rpartition(" ")[0])
    else:
        damage(root / "sparse" / file)
    with pytest.raises(UserError, match=message) as caught:
        config(root).open_source().pairs()
    assert "\n" not in str(caught.value)


def test_missing_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        config(tmp_path / "none").open_source()
    with pytest.raises(UserError, match="neither it nor a folder in it has images/ and sparse/"):
        config(tmp_path).open_source()
    with pytest.raises(UserError, match="stereo/depth_maps"):
        config(write_scene(tmp_path, make_world(1, "PINHOLE")), dense=True).open_source()


@pytest.mark.parametrize(("place", "value"), [(0, np.nan), (0, -100), (1, np.inf), (3, np.nan)])
def test_images_of_a_damaged_camera_are_skipped(tmp_path: Path, place: int, value: float) -> None:
    root = write_scene(tmp_path, make_world(1, "SIMPLE_RADIAL", images=4), binary=True)
    # Camera 3 is the first of two, and that of images 0 and 2.
    put(32 + 8 * place, "<d", value)(root / "sparse/cameras.bin")
    source = config(root, max_angle=180).open_source()
    for pair in source.pairs():
        if pair.frame0 == pair.frame1:
            with pytest.raises(SkippedPair, match=r"damaged camera: cam[02]"):
                source.load(pair)
        else:
            assert (pair.frame0[:4], pair.frame1[:4]) == ("cam1", "cam3")
            source.load(pair)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_damaged_points_match_nothing(tmp_path: Path, value: float) -> None:
    world = make_world(1, "OPENCV", images=2)
    number = next(n for n in world.images[0].points.tolist() if n in world.images[1].points[4:])
    world.points[number][0] = value
    source = config(write_scene(tmp_path, world, binary=True)).open_source()
    (pair,) = source.pairs()
    tracks = source.load(pair).attributes["track"]
    assert len(tracks) > 10
    assert number not in tracks


def test_damaged_images_are_skipped_and_counted(tmp_path: Path) -> None:
    world = make_world(1, "OPENCV", images=6)
    world.images[4].t = np.array([np.nan, 0, 0])
    root = write_scene(tmp_path / "in", world)
    (root / "images/cam0/a.b 0.png").unlink()
    cut(root / "images/cam1/a.b 1.png")
    cv2.imwrite(str(root / "images/cam2/a.b 2.png"), np.zeros((H, W + 1), np.uint8))
    options = config(root, max_angle=180).model_copy(
        update={"out": str(tmp_path / "out"), "workers": 0}
    )
    manifest = preprocess(options)
    assert manifest.totals.samples == 1
    assert manifest.totals.skipped == {
        "missing image": 4,
        "damaged image": 3,
        "image size differs": 2,
        "damaged pose": 1,
    }
    assert not verify_dataset(str(tmp_path / "out"))
    source = options.open_source()
    details = []
    for pair in source.pairs():
        if pair.frame0 != "cam3/a.b 3.png":
            with pytest.raises(SkippedPair) as caught:
                source.load(pair)
            details.append(caught.value.detail.partition(":")[0])
    assert set(details) == {
        "images/cam0/a.b 0.png",
        "images/cam1/a.b 1.png",
        "cam2/a.b 2.png",
        "cam4/a.b 4.png",
    }
