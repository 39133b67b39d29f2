"""The stereo source: exact truth in every layout, scikit-image's Motorcycle, damage."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.sources.base import CompiledSource
from ucn.preprocessing.sources.stereo.folder import StereoConfig
from ucn.preprocessing.sources.stereo.motorcycle import MotorcycleConfig

WIDTH, HEIGHT = 96, 40
# A square of disparity 16 before a slanted wall. In the right image, it has columns 24 to 43.
BOX_ROWS, BOX_COLUMNS, BOX = slice(10, 30), slice(40, 60), 16
UNKNOWN = (slice(0, 3), slice(90, WIDTH))
P2 = "7.215377e+02 0 6.095593e+02 4.485728e+01 0 7.215377e+02 1.72854e+02 2.163791e-01 0 0 1 2.7e-3"
P3 = "7.215377e+02 0 6.095593e+02 -3.395242e+02 0 7.215377e+02 1.72854e+02 2.199936 0 0 1 2.7e-3"
KITTI_CALIBRATION = "calib_time: 09-Jan-2012 13:57:47\n{}: " + P2 + "\n{}: " + P3 + "\n"
MIDDLEBURY_CALIBRATION = (
    "cam0=[1000 0 50; 0 1000 20; 0 0 1]\ncam1=[1000 0 53.5; 0 1000 20; 0 0 1]\n"
    "doffs=3.5\nbaseline=193.001\nwidth=96\nheight=40\nndisp=64\n"
)


def disparities() -> tuple[np.ndarray, np.ndarray]:
    """Disparity of the left and the right image: d0 = 3 + x / 32 + y / 8, and the square."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    left = 3 + x / 32 + y / 8
    left[BOX_ROWS, BOX_COLUMNS] = BOX
    left[UNKNOWN] = np.nan
    # With x = x1 + d1.
    right = (3 + y / 8 + x / 32) / (1 - 1 / 32)
    right[BOX_ROWS, BOX_COLUMNS.start - BOX : BOX_COLUMNS.stop - BOX] = BOX
    return left, right


LEFT, RIGHT = disparities()
TARGETS = np.arange(WIDTH) - LEFT
IN_BOX = np.zeros(LEFT.shape, bool)
IN_BOX[BOX_ROWS, BOX_COLUMNS] = True
ROWS = np.zeros(LEFT.shape, bool)
ROWS[BOX_ROWS] = True
HIDDEN = ROWS & ~IN_BOX & (TARGETS > 23.5) & (TARGETS < 43.5)
# A pixel with a target next to the square may be rejected.
DOUBTFUL = ROWS & ~IN_BOX & (TARGETS > 23) & (TARGETS < 44)
VISIBLE = (TARGETS >= -0.5) & ~HIDDEN


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_pfm(path: Path, disparity: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.where(np.isnan(disparity), np.inf, disparity)[::-1].astype("<f4")
    path.write_bytes(b"Pf\n%d %d\n-0.003922\n" % values.shape[::-1] + values.tobytes())


def write_photos(*paths: Path) -> None:
    for seed, path in enumerate(paths):
        noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        write_image(path, noise)


def write_kitti(root: Path, scene: str, names: tuple[str, ...]) -> None:
    left, right, occ, noc, calibration, first, second = names
    folder = root / "training"
    file = f"{scene}_10.png"
    write_photos(folder / left / file, folder / right / file)
    stored = np.where(np.isnan(LEFT), 0, LEFT * 256).astype(np.uint16)
    write_image(folder / occ / file, stored)
    # As in the benchmark, it has the occluded pixels.
    write_image(folder / noc / file, np.where(TARGETS < -0.5, 0, stored).astype(np.uint16))
    (folder / calibration).mkdir(exist_ok=True)
    (folder / calibration / f"{scene}.txt").write_text(KITTI_CALIBRATION.format(first, second))


K2015 = "image_2", "image_3", "disp_occ_0", "disp_noc_0", "calib_cam_to_cam"


def write_kitti_2015(root: Path) -> None:
    write_kitti(root, "000007", (*K2015, "P_rect_02", "P_rect_03"))


def write_kitti_2012(root: Path) -> None:
    names = "image_0", "image_1", "disp_occ", "disp_noc", "calib", "P0", "P1"
    write_kitti(root, "000007", names)


def write_middlebury(root: Path) -> None:
    scene = root / "Room-perfect"
    write_photos(scene / "im0.png", scene / "im1.png")
    write_pfm(scene / "disp0.pfm", LEFT)
    write_pfm(scene / "disp1.pfm", RIGHT)
    (scene / "calib.txt").write_text(MIDDLEBURY_CALIBRATION)


def write_eth3d(root: Path) -> None:
    scene = root / "room_1l"
    write_photos(scene / "im0.png", scene / "im1.png")
    write_pfm(scene / "disp0GT.pfm", LEFT)
    mask = np.where(VISIBLE, 255, np.where(np.isnan(LEFT), 0, 128)).astype(np.uint8)
    mask[36:] = 128
    write_image(scene / "mask0nocc.png", mask)
    (scene / "calib.txt").write_text(MIDDLEBURY_CALIBRATION)


def write_sceneflow(root: Path) -> None:
    for rendering in ("clean", "final"):
        photos = root / f"frames_{rendering}pass" / "TRAIN/A/0000"
        write_photos(photos / "left/0006.png", photos / "right/0006.png")
    write_pfm(root / "disparity/TRAIN/A/0000/left/0006.pfm", LEFT)
    write_pfm(root / "disparity/TRAIN/A/0000/right/0006.pfm", RIGHT)


def write_subset(root: Path) -> None:
    photos = root / "train/image_clean"
    write_photos(photos / "left/0000000.png", photos / "right/0000000.png")
    write_pfm(root / "train/disparity/left/0000000.pfm", -LEFT)


def config(root: Path, **options: object) -> StereoConfig:
    return StereoConfig(root=str(root), out="unused", **options)


def load(root: Path, **options: object) -> Sample:
    source = config(root, **{"max_matches": 0, **options}).open_source()
    return source.load(source.pairs()[0])


LAYOUTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "kitti-2015": (write_kitti_2015, "kitti_2015_000007-left-right"),
    "kitti-2012": (write_kitti_2012, "kitti_2012_000007-left-right"),
    "middlebury": (write_middlebury, "Room_perfect-im0-im1"),
    "eth3d": (write_eth3d, "room_1l-im0-im1"),
    "sceneflow": (write_sceneflow, "TRAIN_A_0000_clean-0006_left-0006_right"),
    "subset": (write_subset, "train_clean-0000000_left-0000000_right"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_exact_truth_in_every_layout(tmp_path: Path, layout: str) -> None:
    write, key = LAYOUTS[layout]
    write(tmp_path)
    sample = load(tmp_path)
    assert sample.key == key
    x, y = sample.matches_N4[:, :2].T.astype(int)
    np.testing.assert_array_equal(sample.matches_N4[:, 2], TARGETS.astype(np.float32)[y, x])
    np.testing.assert_array_equal(sample.matches_N4[:, 3], y)
    found = np.zeros(LEFT.shape, bool)
    found[y, x] = True
    expected = VISIBLE.copy()
    if layout == "eth3d":
        expected[36:] = False
    np.testing.assert_array_equal(found[~DOUBTFUL], expected[~DOUBTFUL])
    # The wall is visible up to a pixel beside the square, and hidden behind it.
    assert not found[HIDDEN & (TARGETS > 24) & (TARGETS < 43)].any()
    assert (found & HIDDEN).sum() <= 0.02 * HIDDEN.sum()
    rejected = sample.metadata["rejected"]
    outside = 0 if "kitti" in layout else (TARGETS < -0.5).sum()
    assert rejected["outside image 1"] == outside
    assert rejected["unknown disparity"] + outside == (~(TARGETS >= -0.5)).sum()
    assert sum(rejected.values()) + len(x) == WIDTH * HEIGHT
    assert sample.metadata["kind"] == "rigid"


@pytest.mark.parametrize("layout", ["kitti-2015", "kitti-2012", "middlebury", "eth3d"])
def test_calibration_projects_each_point_to_its_match(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout][0](tmp_path)
    sample = load(tmp_path)
    K0, K1, T_1_0 = (np.array(sample.metadata[name]) for name in ("K0", "K1", "T_1_0"))
    kitti = layout.startswith("kitti")
    baseline, focal = (0.532725, 721.5377) if kitti else (0.193001, 1000)
    assert sample.metadata["unit"] == "metre"
    assert T_1_0[0, 3] == pytest.approx(-baseline, rel=1e-5)
    assert K0[0, 0] == focal
    x0, y0, x1, y1 = sample.matches_N4.astype(float).T
    depth = sample.attributes["depth0"]
    np.testing.assert_allclose(depth, baseline * focal / (x0 - x1 + (not kitti) * 3.5), rtol=1e-5)
    np.testing.assert_array_equal(depth, sample.attributes["depth1"])
    points = np.linalg.inv(K0) @ np.stack([x0, y0, np.ones(len(x0))]) * depth
    projected = K1 @ (points + T_1_0[:3, 3:])
    np.testing.assert_allclose(projected[:2] / projected[2], [x1, y1], atol=1e-3)


def test_real_truth_of_motorcycle(tmp_path: Path) -> None:
    left, right, disparity = data.stereo_motorcycle()
    for name, image in (("im0", left), ("im1", right)):
        write_image(tmp_path / f"Motorcycle/{name}.png", image[..., ::-1])
    write_pfm(tmp_path / "Motorcycle/disp0.pfm", disparity)
    (tmp_path / "Motorcycle/calib.txt").write_text(
        "cam0=[994.978 0 311.193; 0 994.978 254.877; 0 0 1]\n"
        "cam1=[994.978 0 342.279; 0 994.978 254.877; 0 0 1]\ndoffs=31.086\nbaseline=193.001\n"
    )
    sample = load(tmp_path)
    motorcycle = MotorcycleConfig(out="unused").open_source()
    expected = motorcycle.load(motorcycle.pairs()[0])
    np.testing.assert_array_equal(sample.image0, expected.image0)
    np.testing.assert_array_equal(sample.matches_N4, expected.matches_N4)
    np.testing.assert_allclose(
        sample.attributes["depth0"], expected.attributes["depth0"], rtol=1e-6
    )
    for name in ("K0", "K1", "T_1_0"):
        np.testing.assert_allclose(sample.metadata[name], expected.metadata[name], atol=1e-9)
    # Independent of the labels: colours at the matches agree far better than one pixel beside.
    x0, y0, x1, y1 = np.rint(sample.matches_N4).astype(int).T
    error = {
        shift: np.abs(
            left[y0, x0].astype(float) - right[y1, np.clip(x1 + shift, 0, left.shape[1] - 1)]
        ).mean()
        for shift in (-3, 0, 3)
    }
    assert error[0] < 0.7 * min(error[-3], error[3])


def test_one_bad_value_costs_only_its_pixel(tmp_path: Path) -> None:
    write_eth3d(tmp_path)
    whole = {tuple(match) for match in load(tmp_path).matches_N4}
    for bad in (np.nan, np.inf, -np.inf, 1e30, -1e30, -3.5, -20, 80):
        disparity = LEFT.copy()
        disparity[5, 70] = bad
        path = tmp_path / "room_1l/disp0GT.pfm"
        path.write_bytes(
            b"Pf\n96 40\n-1\n" + np.ascontiguousarray(disparity[::-1].astype("<f4")).tobytes()
        )
        sample = load(tmp_path)
        lost = whole - {tuple(match) for match in sample.matches_N4}
        assert [match[:2] for match in lost] == [(70, 5)]
        assert np.isfinite(sample.attributes["depth0"]).all()


def test_files_with_other_suffixes_are_found(tmp_path: Path) -> None:
    write_middlebury(tmp_path)
    scene = tmp_path / "Room-perfect"
    expected = load(tmp_path)
    for name in ("im0.png", "im1.png", "disp0.pfm", "disp1.pfm", "calib.txt"):
        (scene / name).rename(scene / name.replace(name[-3:], name[-3:].upper()))
    sample = load(tmp_path)
    np.testing.assert_array_equal(sample.matches_N4, expected.matches_N4)
    assert sample.metadata == expected.metadata


def test_colour_images_and_either_truth(tmp_path: Path) -> None:
    names = "colored_0", "colored_1", "disp_occ", "disp_noc", "calib", "P0", "P1"
    write_kitti(tmp_path, "000007", names)
    shutil.rmtree(tmp_path / "training/calib")
    noc = load(tmp_path / "training")
    shutil.rmtree(tmp_path / "training/disp_noc")
    occ = load(tmp_path / "training")
    np.testing.assert_array_equal(noc.matches_N4, occ.matches_N4)
    assert occ.metadata["rejected"]["outside image 1"] == (TARGETS < -0.5).sum()
    assert occ.image0.ndim == 3
    assert occ.metadata["K0"] is None
    assert not occ.attributes


def test_splits(tmp_path: Path) -> None:
    write_kitti_2015(tmp_path / "kitti")
    truth = tmp_path / "kitti/training/disp_noc_0"
    for scene in range(100):
        (truth / f"{scene:06d}_10.png").touch()
    write_sceneflow(tmp_path / "things")
    shutil.copytree(tmp_path / "things/disparity/TRAIN", tmp_path / "things/disparity/TEST")

    def sequences(name: str, split: str) -> list[str]:
        pairs = config(tmp_path / name, split=split).open_source().pairs()
        return [pair.sequence for pair in pairs]

    held_out = [f"kitti_2015_{scene:06d}" for scene in (*range(40, 50), *range(90, 100))]
    assert sequences("kitti", "val") == held_out
    assert len(sequences("kitti", "train")) == 80
    assert len(sequences("kitti", "all")) == 100
    with pytest.raises(UserError, match="split: test has no ground truth"):
        sequences("kitti", "test")
    assert sequences("things", "train") == ["TRAIN_A_0000_clean", "TRAIN_A_0000_final"]
    assert sequences("things", "test") == ["TEST_A_0000_clean", "TEST_A_0000_final"]
    assert len(sequences("things", "all")) == 4
    with pytest.raises(UserError, match="no disparity in the layout sceneflow, split val"):
        sequences("things", "val")


def test_several_datasets_of_sceneflow_below_one_root(tmp_path: Path) -> None:
    write_sceneflow(tmp_path / "flyingthings3d")
    write_sceneflow(tmp_path / "monkaa")
    source = config(tmp_path).open_source()
    assert [pair.sequence for pair in source.pairs()] == [
        f"{dataset}_TRAIN_A_0000_{rendering}"
        for dataset in ("flyingthings3d", "monkaa")
        for rendering in ("clean", "final")
    ]
    for pair in source.pairs():
        assert len(source.load(pair).matches_N4) > 1000


def test_a_reader_holds_only_its_pairs(tmp_path: Path) -> None:
    for number in range(30):
        write_middlebury(tmp_path / f"{number:02d}")
    source = config(tmp_path).open_source()
    assert isinstance(source, CompiledSource)
    pair = source.pairs()[3]
    data = pickle.dumps(source.reader([pair]))
    assert len(data) < len(pickle.dumps(source.reader(source.pairs()))) / 5
    reader = pickle.loads(data)
    assert reader.key(pair) == "03_Room_perfect-im0-im1"
    expected = source.load(pair)
    np.testing.assert_array_equal(reader.load(pair).matches_N4, expected.matches_N4)


def test_inputs_change_with_the_files(tmp_path: Path) -> None:
    write_middlebury(tmp_path)
    source = config(tmp_path).open_source()
    (pair,) = source.pairs()
    before = source.input_fingerprint(pair)
    for name in ("im1.png", "disp1.pfm", "calib.txt"):
        path = tmp_path / "Room-perfect" / name
        data = path.read_bytes()
        path.write_bytes(data + b"#")
        assert source.input_fingerprint(pair) != before
        path.write_bytes(data)
    assert source.input_fingerprint(pair) == before


def test_wrong_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: no such folder"):
        config(tmp_path / "none").open_source()
    with pytest.raises(UserError, match="no disparity in the layout middlebury"):
        config(tmp_path).open_source()
    write_kitti_2015(tmp_path)
    with pytest.raises(UserError, match="training/image_0: no such folder"):
        config(tmp_path, layout="kitti-2012").open_source()
    write_kitti_2012(tmp_path)
    with pytest.raises(UserError, match="kitti-2012 and kitti-2015; choose with --layout"):
        config(tmp_path).open_source()
    assert load(tmp_path, layout="kitti-2012").key.startswith("kitti_2012")
    shutil.rmtree(tmp_path / "training/image_3")
    with pytest.raises(UserError, match="training/image_3: no such folder"):
        config(tmp_path, layout="kitti-2015").open_source()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _write(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def _crop(path: Path) -> None:
    write_image(path, cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:-1])


ROOM, HALL = "Room-perfect", "room_1l"


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        (f"{ROOM}/im1.png", Path.unlink, "missing image"),
        (f"{ROOM}/im0.png", _crop, "disparity size differs"),
        (f"{ROOM}/im1.png", _crop, "disparity size differs"),
        (f"{ROOM}/disp0.pfm", Path.unlink, "missing disparity"),
        (f"{ROOM}/disp0.pfm", _cut, "damaged disparity"),
        (f"{ROOM}/disp1.pfm", _cut, "damaged disparity"),
        (f"{ROOM}/disp0.pfm", _write("P6\n96 40\n255\n"), "damaged disparity"),
        (f"{ROOM}/calib.txt", Path.unlink, "missing calibration"),
        (f"{ROOM}/calib.txt", _write("cam0=[1 2 3]"), "damaged calibration"),
        (
            f"{ROOM}/calib.txt",
            _write(MIDDLEBURY_CALIBRATION.replace("193.001", "-1")),
            "damaged calibration",
        ),
        (
            f"{ROOM}/calib.txt",
            _write(MIDDLEBURY_CALIBRATION.replace("53.5", "nan")),
            "damaged calibration",
        ),
        (f"{HALL}/mask0nocc.png", _crop, "disparity size differs"),
        ("training/disp_noc_0/000007_10.png", _cut, "damaged disparity"),
        ("training/image_3/000007_10.png", Path.unlink, "missing image"),
        ("training/calib_cam_to_cam/000007.txt", Path.unlink, "missing calibration"),
        ("training/calib_cam_to_cam/000007.txt", _write("P0: 1 2 3"), "damaged calibration"),
    ],
)
def test_damage_skips_the_pair(
    tmp_path: Path, file: str, damage: Callable[[Path], object], reason: str
) -> None:
    write = {ROOM: write_middlebury, HALL: write_eth3d}.get(file.split("/")[0], write_kitti_2015)
    write(tmp_path)
    source = config(tmp_path).open_source()
    (pair,) = source.pairs()
    damage(tmp_path / file)
    with pytest.raises(SkippedPair) as caught:
        source.load(pair)
    assert caught.value.reason == reason


def test_shards_are_thinned_and_verified(tmp_path: Path) -> None:
    write_middlebury(tmp_path / "in")
    write_eth3d(tmp_path / "in")
    (tmp_path / "in" / HALL / "im1.png").unlink()
    out = tmp_path / "out"
    manifest = preprocess(
        StereoConfig(root=str(tmp_path / "in"), out=str(out), workers=0, max_matches=500)
    )
    assert (manifest.totals.samples, manifest.totals.matches) == (1, 500)
    assert manifest.totals.skipped == {"missing image": 1}
    assert StereoConfig(root="r", out="o").max_matches == 20_000
    assert verify_dataset(out) == []
