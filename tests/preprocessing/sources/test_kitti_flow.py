"""The kitti-flow source: both years' layouts, splits, calibration, objects, damage."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.sources.flow.kitti import KittiFlowConfig

WIDTH, HEIGHT = 64, 48
P2 = "7.215e+02 0 6.09e+02 4.48e+01 0 7.215e+02 1.72e+02 2.1e-01 0 0 1 2.7e-03"
K = [[721.5, 0, 609], [0, 721.5, 172], [0, 0, 1]]


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_scene(folder: Path, scene: int, photos: str, *, flow: str = "flow_noc") -> None:
    """A scene that moves by (2.25, -1), with known flow on every second row."""
    rng = np.random.default_rng(scene)
    for frame in (10, 11):
        image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        write(folder / photos / f"{scene:06d}_{frame}.png", image)
    encoded = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    # OpenCV's order: validity, v, u.
    encoded[::2] = (1, 2**15 - 64, 2**15 + 144)
    write(folder / flow / f"{scene:06d}_10.png", encoded)


def write_2015(folder: Path, *scenes: int) -> Path:
    for scene in scenes:
        write_scene(folder, scene, "image_2")
        calibration = folder / "calib_cam_to_cam" / f"{scene:06d}.txt"
        calibration.parent.mkdir(exist_ok=True)
        calibration.write_text(
            "calib_time: 09-Jan-2012 13:57:47\n"
            f"P_rect_00: {P2.replace('7', '6')}\nP_rect_02: {P2}\n"
        )
        objects = np.zeros((HEIGHT, WIDTH), np.uint8)
        objects[10:20, 30:50] = 3
        write(folder / "obj_map" / f"{scene:06d}_10.png", objects)
    return folder


def config(root: Path, **options: object) -> KittiFlowConfig:
    return KittiFlowConfig(root=str(root), out="unused", **options)


def load(root: Path, **options: object) -> Sample:
    source = config(root, **options).open_source()
    return source.load(source.pairs()[0])


def test_2015_with_calibration_and_objects(tmp_path: Path) -> None:
    write_2015(tmp_path / "training", 7)
    sample = load(tmp_path, max_matches=0)
    assert sample.key == "kitti2015-000007-10-11"
    assert sample.metadata["sequence"] == "kitti2015-000007"
    assert sample.metadata["K0"] == sample.metadata["K1"] == K
    assert sample.metadata["T_1_0"] is None
    x, y = sample.matches_N4[:, :2].T.astype(int)
    np.testing.assert_array_equal(
        sample.matches_N4[:, 2:] - sample.matches_N4[:, :2], [[2.25, -1]] * len(x)
    )
    # Targets reach x = 63.5 and y = -0.5: columns 0-61, even rows but the first.
    assert set(zip(x, y, strict=True)) == {(u, v) for u in range(62) for v in range(2, HEIGHT, 2)}
    on_car = (x >= 30) & (x < 50) & (y >= 10) & (y < 20)
    assert sample.attributes["object"].dtype == np.uint8
    np.testing.assert_array_equal(sample.attributes["object"], np.where(on_car, 3, 0))
    assert sample.metadata["rejected"] == {
        "unknown flow": WIDTH * HEIGHT // 2,
        "outside image 1": WIDTH + 2 * (HEIGHT // 2 - 1),
        "contested target": 0,
        "duplicate": 0,
        "beyond max_matches": 0,
    }


@pytest.mark.parametrize("photos", ["image_0", "colored_0"])
def test_2012_in_grey_or_colour(tmp_path: Path, photos: str) -> None:
    write_scene(tmp_path, 0, photos)
    (tmp_path / "calib").mkdir()
    (tmp_path / "calib/000000.txt").write_text(f"P0: {P2}\nP1: {P2}\n")
    sample = load(tmp_path)
    assert sample.key == "kitti2012-000000-10-11"
    assert sample.metadata["K0"] == K
    assert not sample.attributes


def test_without_calibration_and_with_flow_occ_only(tmp_path: Path) -> None:
    write_scene(tmp_path, 0, "image_2", flow="flow_occ")
    sample = load(tmp_path)
    assert sample.metadata["K0"] is None
    assert len(sample.matches_N4) == 62 * 23


def test_splits_hold_out_blocks_of_scenes(tmp_path: Path) -> None:
    write_scene(tmp_path, 0, "image_2")
    for scene in range(200):
        (tmp_path / f"flow_noc/{scene:06d}_10.png").touch()
    scenes = {
        split: [
            int(pair.sequence[-6:]) for pair in config(tmp_path, split=split).open_source().pairs()
        ]
        for split in ("train", "val", "all")
    }
    assert scenes["val"] == [*range(40, 50), *range(90, 100), *range(140, 150), *range(190, 200)]
    assert sorted(scenes["train"] + scenes["val"]) == scenes["all"] == list(range(200))


def test_the_year_is_asked_for_where_folders_do_not_tell(tmp_path: Path) -> None:
    write_scene(tmp_path, 0, "image_2")
    write_scene(tmp_path, 0, "image_0")
    with pytest.raises(UserError, match="--year"):
        config(tmp_path).open_source()
    assert load(tmp_path, year=2012).key.startswith("kitti2012")
    assert load(tmp_path, year=2015).key.startswith("kitti2015")


def test_inputs_change_with_the_files(tmp_path: Path) -> None:
    source = config(write_2015(tmp_path, 0)).open_source()
    (pair,) = source.pairs()
    before = source.input_fingerprint(pair)
    assert [name for name, _ in before] == [
        "image_2/000000_10.png",
        "image_2/000000_11.png",
        "flow_noc/000000_10.png",
        "obj_map/000000_10.png",
        "calib_cam_to_cam/000000.txt",
    ]
    (tmp_path / "obj_map/000000_10.png").unlink()
    assert source.input_fingerprint(pair) == [*before[:3], ["obj_map/000000_10.png", -1], before[4]]
    calibration = tmp_path / "calib_cam_to_cam/000000.txt"
    calibration.write_text(calibration.read_text().replace("7.215", "7.216"))
    assert source.input_fingerprint(pair)[4] != before[4]


def test_wrong_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither image_0, colored_0 nor image_2"):
        config(tmp_path / "none").open_source()
    (tmp_path / "training/image_2").mkdir(parents=True)
    with pytest.raises(UserError, match="training/flow_noc: no such folder"):
        config(tmp_path).open_source()
    (tmp_path / "training/flow_noc").mkdir()
    with pytest.raises(UserError, match=r"no NNNNNN_10\.png of the split train"):
        config(tmp_path).open_source().pairs()
    with pytest.raises(UserError, match="split: test has no ground truth"):
        config(tmp_path, split="test")


def _write(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def _resize(path: Path) -> None:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    write(path, np.ascontiguousarray(image[:-1]))


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("image_2/000000_11.png", Path.unlink, "missing image"),
        ("image_2/000000_10.png", _write("x"), "damaged image"),
        ("flow_noc/000000_10.png", _write("x"), "damaged flow"),
        ("flow_noc/000000_10.png", _resize, "flow size differs"),
        ("image_2/000000_10.png", _resize, "flow size differs"),
        ("obj_map/000000_10.png", Path.unlink, "missing image"),
        ("obj_map/000000_10.png", _resize, "flow size differs"),
        ("calib_cam_to_cam/000000.txt", Path.unlink, "missing calibration"),
        ("calib_cam_to_cam/000000.txt", _write("P_rect_02: 1 2 3"), "damaged calibration"),
        ("calib_cam_to_cam/000000.txt", _write(f"P_rect_02: nan {P2[9:]}"), "damaged calibration"),
        ("calib_cam_to_cam/000000.txt", _write(f"P_rect_03: {P2}"), "damaged calibration"),
        (
            "calib_cam_to_cam/000000.txt",
            lambda path: path.write_bytes(b"\xff"),
            "damaged calibration",
        ),
    ],
)
def test_damage_skips_the_pair(
    tmp_path: Path, file: str, damage: Callable[[Path], object], reason: str
) -> None:
    write_2015(tmp_path, 0)
    damage(tmp_path / file)
    with pytest.raises(SkippedPair) as caught:
        load(tmp_path)
    assert caught.value.reason == reason
    assert file in caught.value.detail or reason == "flow size differs"


def test_no_valid_pixel_is_too_few_matches(tmp_path: Path) -> None:
    write_2015(tmp_path, 0)
    write(tmp_path / "flow_noc/000000_10.png", np.zeros((HEIGHT, WIDTH, 3), np.uint16))
    with pytest.raises(SkippedPair, match="too few matches"):
        load(tmp_path)
