"""The kitti-odometry source on a synthetic drive rewritten in its layout, with its labels."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pykitti
import pytest

from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.sources.base import Source
from ucn.preprocessing.sources.kitti.odometry import KittiOdometryConfig
from ucn.preprocessing.sources.kitti.raw import KittiRawConfig

DATE = "2011_09_26"
FRAMES = 6


@pytest.fixture(scope="module")
def odometry_root(world_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drive 0001 as sequence 08, by pykitti's calibration; frame 5 has no scan."""
    root = tmp_path_factory.mktemp("odometry")
    folder = root / "sequences" / "08"
    drive = world_root / DATE / f"{DATE}_drive_0001_sync"
    data = pykitti.raw(str(world_root), DATE, "0001")
    for name in ("image_2", "velodyne", "labels"):
        (folder / name).mkdir(parents=True)
    (root / "poses").mkdir()
    R_rect = data.calib.R_rect_00
    Tr = R_rect @ data.calib.T_cam0_velo_unrect
    lines = [
        f"P{camera}: " + " ".join(map(repr, data.calib.P_rect_20.ravel().tolist()))
        for camera in range(4)
    ]
    lines.append("Tr: " + " ".join(map(repr, Tr[:3].ravel().tolist())))
    (folder / "calib.txt").write_text("\n".join(lines) + "\n")
    T_cam0_imu = Tr @ data.calib.T_velo_imu
    first = data.oxts[0].T_w_imu @ np.linalg.inv(T_cam0_imu)
    poses = []
    for frame in range(FRAMES):
        pose = np.linalg.inv(first) @ data.oxts[frame].T_w_imu @ np.linalg.inv(T_cam0_imu)
        poses.append(" ".join(map(repr, pose[:3].ravel().tolist())))
        (folder / "image_2" / f"{frame:06d}.png").symlink_to(
            drive / "image_02" / "data" / f"{frame:010d}.png"
        )
        scan = drive / "velodyne_points" / "data" / f"{frame:010d}.bin"
        if frame != 5:
            (folder / "velodyne" / f"{frame:06d}.bin").symlink_to(scan)
        labels = classes(np.fromfile(scan, np.float32).reshape(-1, 4))
        (labels | np.uint32(7 << 16)).tofile(folder / "labels" / f"{frame:06d}.label")
    (root / "poses" / "08.txt").write_text("\n".join(poses) + "\n")
    return root


def classes(scan_N4: np.ndarray) -> np.ndarray:
    """Building on the left, a car that is said to move on the right, road between."""
    side = scan_N4[:, 1]
    return np.select([side > 3, side < -3], [50, 252], 40).astype(np.uint32)


def open_source(root: Path, **options: object) -> Source:
    defaults = {"split": "val", "min_matches": 1, "gaps": (1, 3)}
    config: PreprocessConfig = KittiOdometryConfig(
        root=str(root), out="unused", **defaults | options
    )
    return config.open_source()


def test_the_same_drive_gives_the_same_matches_in_both_layouts(
    world_root: Path, odometry_root: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    (bare / "sequences" / "08").mkdir(parents=True)
    (bare / "poses").symlink_to(odometry_root / "poses")
    for name in ("image_2", "velodyne", "calib.txt"):
        (bare / "sequences" / "08" / name).symlink_to(odometry_root / "sequences" / "08" / name)
    unlabelled = tmp_path / "raw"
    (unlabelled / DATE / f"{DATE}_drive_0001_sync").mkdir(parents=True)
    for path in (world_root / DATE).glob("*.txt"):
        (unlabelled / DATE / path.name).symlink_to(path)
    for path in (world_root / DATE / f"{DATE}_drive_0001_sync").iterdir():
        if path.name != "tracklet_labels.xml":
            (unlabelled / DATE / f"{DATE}_drive_0001_sync" / path.name).symlink_to(path)
    odometry, raw = (
        open_source(bare),
        KittiRawConfig(
            root=str(unlabelled), out="unused", min_matches=1, gaps=(1, 3)
        ).open_source(),
    )
    for pair in odometry.pairs():
        if pair.frame1 == "000005":
            continue
        sample = odometry.load(pair)
        twin = raw.load(
            next(
                other
                for other in raw.pairs()
                if (int(other.frame0), int(other.frame1)) == (int(pair.frame0), int(pair.frame1))
            )
        )
        assert "class" not in sample.attributes
        np.testing.assert_array_equal(sample.image1, twin.image1)
        np.testing.assert_allclose(sample.metadata["T_1_0"], twin.metadata["T_1_0"], atol=1e-6)
        assert len(sample.matches_N4) == pytest.approx(len(twin.matches_N4), rel=1e-3)
        matches = {tuple(row) for row in np.round(twin.matches_N4, 2).tolist()}
        same = [tuple(row) in matches for row in np.round(sample.matches_N4, 2).tolist()]
        # Rounding to two digits splits equal numbers now and then.
        assert np.mean(same) > 0.97


def test_classes_are_kept_and_moving_ones_removed(odometry_root: Path) -> None:
    source = open_source(odometry_root)
    sample = source.load(source.pairs()[0])
    found = sample.attributes["class"]
    assert found.dtype == np.uint16
    assert set(found.tolist()) == {40, 50}
    assert sample.metadata["classes"] == {
        "road": int((found == 40).sum()),
        "building": int((found == 50).sum()),
    }
    assert sample.metadata["rejected"]["on a labelled mover"] > 100


def test_suffixes_in_capitals_change_nothing(odometry_root: Path, tmp_path: Path) -> None:
    folder = odometry_root / "sequences" / "08"
    copy = tmp_path / "sequences" / "08"
    copy.mkdir(parents=True)
    (copy / "calib.txt").symlink_to(folder / "calib.txt")
    (tmp_path / "poses").symlink_to(odometry_root / "poses")
    for name in ("image_2", "velodyne", "labels"):
        (copy / name).mkdir()
        for path in (folder / name).iterdir():
            (copy / name / f"{path.stem}{path.suffix.upper()}").symlink_to(path)
    source, capitals = open_source(odometry_root), open_source(tmp_path)
    pair = source.pairs()[0]
    assert sample_bytes(capitals.load(pair)) == sample_bytes(source.load(pair))
    assert capitals.input_fingerprint(pair) == source.input_fingerprint(pair)


@pytest.mark.parametrize("value", [np.nan, 0])
def test_rows_that_are_no_returns_are_dropped_with_their_labels(
    odometry_root: Path, tmp_path: Path, value: float
) -> None:
    """Rows of beams without a return, between those of the returns, change only their count."""
    root = tmp_path / "root"
    shutil.copytree(odometry_root, root)
    source = open_source(odometry_root)
    pair = source.pairs()[0]
    for frame in (pair.frame0, pair.frame1):
        scan = root / "sequences" / "08" / "velodyne" / f"{frame}.bin"
        labels = root / "sequences" / "08" / "labels" / f"{frame}.label"
        for path, kind, width in ((scan, np.float32, 4), (labels, np.uint32, 1)):
            rows = np.fromfile(path, kind).reshape(-1, width)
            empty = np.full_like(rows, value if kind is np.float32 else 40)
            np.stack([rows, empty], axis=1).tofile(path)
    sample, expected = open_source(root).load(pair), source.load(pair)
    points = scan.stat().st_size // 32
    assert sample.metadata["rejected"].pop("no return") == pytest.approx(points, rel=0.1)
    assert sample_bytes(sample) == sample_bytes(expected)


def test_a_task_reads_only_images_scans_and_labels(odometry_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(odometry_root, root)
    source = open_source(root)
    pairs = source.pairs()[:2]
    expected = [sample_bytes(source.load(pair)) for pair in pairs]
    reader = pickle.dumps(open_source(root).reader(pairs))
    (root / "sequences" / "08" / "calib.txt").unlink()
    shutil.rmtree(root / "poses")
    assert [sample_bytes(pickle.loads(reader).load(pair)) for pair in pairs] == expected
    (root / "sequences" / "08" / "labels" / f"{pairs[0].frame1}.label").unlink()
    with pytest.raises(SkippedPair, match=rf"damaged labels: {pairs[0].frame1}\.label: No such"):
        pickle.loads(reader).load(pairs[0])


def sample_bytes(sample: Sample) -> bytes:
    return pickle.dumps(sample)


def test_missing_and_damaged_frames_are_skipped(odometry_root: Path, tmp_path: Path) -> None:
    config = KittiOdometryConfig(
        root=str(odometry_root), out=str(tmp_path), split="val", gaps=(1,), workers=0, min_matches=1
    )
    manifest = preprocess(config)
    assert manifest.totals.samples == FRAMES - 2
    assert manifest.totals.skipped == {"missing scan": 1}
    assert ShardDataset(tmp_path).keys[0] == "08-image_2-000000-000001"


def test_short_poses_and_labels_are_told(odometry_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder = root / "sequences" / "08"
    folder.mkdir(parents=True)
    for name in ("image_2", "velodyne", "calib.txt"):
        (folder / name).symlink_to(odometry_root / "sequences" / "08" / name)
    (folder / "labels").mkdir()
    (folder / "labels" / "000000.label").write_bytes(b"\0" * 40)
    (root / "poses").mkdir()
    poses = root / "poses" / "08.txt"
    lines = (odometry_root / "poses" / "08.txt").read_text().splitlines()
    poses.write_text("\n".join(lines[:3]))
    source = open_source(root, gaps=(1,))
    pairs = source.pairs()
    with pytest.raises(SkippedPair, match=r"damaged labels: 000000\.label: 10 for"):
        source.load(pairs[0])
    with pytest.raises(SkippedPair, match=r"missing pose: 08\.txt: line 4"):
        source.load(pairs[2])
    poses.write_text("1 2 3\n")
    with pytest.raises(UserError, match=r"08.txt: line 1 is not 12 numbers"):
        open_source(root, gaps=(1,)).pairs()
    poses.write_text("\n\n".join(lines) + "\n\n \n")
    source = open_source(root, gaps=(1,))
    with pytest.raises(SkippedPair, match="damaged labels"):
        source.load(pairs[0])
    assert source.load(pairs[2]).metadata["frame1"] == "000003"
    (folder / "calib.txt").unlink()
    calibration = (odometry_root / "sequences" / "08" / "calib.txt").read_text()
    (folder / "calib.txt").write_text(calibration.partition("Tr")[0])
    with pytest.raises(
        UserError, match=r"calib\.txt: has no Tr .* data_odometry_calib.* no matches"
    ):
        open_source(root, gaps=(1,)).pairs()
    (folder / "calib.txt").write_text(calibration)
    poses.unlink()
    with pytest.raises(UserError, match=r"missing poses; KITTI has them for 00 to 10"):
        open_source(root, gaps=(1,)).pairs()


def test_wrong_roots_and_splits_are_refused(odometry_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no folder `sequences`"):
        open_source(tmp_path)
    with pytest.raises(UserError, match="--split holdout"):
        open_source(odometry_root, split="holdout")
    with pytest.raises(UserError, match="lacks 09, 10"):
        open_source(odometry_root, split="test")
    with pytest.raises(UserError, match="lacks 07"):
        open_source(odometry_root, sequences=("07", "08"))
    with pytest.raises(UserError, match="holds no image"):
        open_source(odometry_root, camera=0).pairs()
    with pytest.raises(UserError, match=r"image_0: holds no images; .*--cameras"):
        open_source(odometry_root, cameras=(0, 2))


def test_all_cameras_are_those_with_images(
    odometry_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "root"
    shutil.copytree(odometry_root, root, symlinks=True)
    folder = root / "sequences" / "08"
    (folder / "image_3").symlink_to(folder / "image_2")
    one, both = open_source(root), open_source(root, cameras="all")
    assert "takes image_2, image_3" in caplog.text
    assert [both.key(pair) for pair in both.pairs()] == [
        key.replace("image_2", camera)
        for camera in ("image_2", "image_3")
        for key in map(one.key, one.pairs())
    ]
