"""KITTI raw's files against pykitti, and every kind of damage to them."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pykitti
import pytest

from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.sources.input_files import PHOTO_SUFFIXES
from ucn.preprocessing.sources.kitti.files import (
    read_calibration,
    read_image,
    read_oxts,
    read_scan,
    read_tracklets,
)
from ucn.preprocessing.sources.kitti.sequence import FrameFiles

DATE, DRIVE = "2011_09_26", "2011_09_26_drive_0001_sync"


@pytest.fixture
def day(world_root: Path, tmp_path: Path) -> Path:
    """A copy of the calibration of a day, to be damaged."""
    copy = tmp_path / DATE
    copy.mkdir()
    for file in (world_root / DATE).glob("calib_*.txt"):
        shutil.copy(file, copy)
    return copy


def test_calibration_is_pykittis_with_the_whole_fourth_column(world_root: Path) -> None:
    found = read_calibration(world_root / DATE, 2)
    calibration = pykitti.raw(str(world_root), DATE, "0001").calib
    P = calibration.P_rect_20
    rect0_velo = calibration.R_rect_00 @ calibration.T_cam0_velo_unrect
    rng = np.random.default_rng()
    points_N4 = np.c_[rng.uniform([4, -10, -2], [60, 10, 3], (50, 3)), np.ones(50)]
    homogeneous_N3 = points_N4 @ (P @ rect0_velo).T
    camera_N3 = (points_N4 @ found.T_cam_velo.T)[:, :3]
    np.testing.assert_allclose(camera_N3 @ found.K.T, homogeneous_N3, rtol=1e-10)
    assert np.abs(found.T_cam_velo - calibration.T_cam2_velo).max() > 1e-4


def test_oxts_pose_is_pykittis(world_root: Path) -> None:
    drive = pykitti.raw(str(world_root), DATE, "0001")
    folder = world_root / DATE / DRIVE / "oxts" / "data"
    first, scale = read_oxts(folder / "0000000000.txt")
    sixth, _ = read_oxts(folder / "0000000006.txt", scale)
    expected = np.linalg.inv(drive.oxts[0].T_w_imu) @ drive.oxts[6].T_w_imu
    np.testing.assert_allclose(np.linalg.inv(first) @ sixth, expected, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["calib_cam_to_cam.txt", "calib_velo_to_cam.txt", "calib_imu_to_velo.txt"]
)
def test_missing_calibration_is_refused_by_name(day: Path, name: str) -> None:
    (day / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: missing calibration"):
        read_calibration(day, 2)


@pytest.mark.parametrize("text", ["", "R: 1 2 3\nT: 1 2 3\n", "no colon", "R: nan\nT: 0 0 0\n"])
def test_damaged_calibration_is_refused_by_name(day: Path, text: str) -> None:
    (day / "calib_velo_to_cam.txt").write_text(text)
    with pytest.raises(UserError, match=r"calib_velo_to_cam\.txt"):
        read_calibration(day, 2)


def _fields(**changes: object) -> str:
    values = [str(v) for v in (49.0, 8.4, 112.0, 0.03, 0.01, -1.0, *([0.0] * 19), 4, 8, 5, 5, 6)]
    for name, value in changes.items():
        values[int(name[1:])] = str(value)
    return " ".join(values)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "damaged oxts"),
        ("1 2 3", "damaged oxts"),
        ("a b c", "damaged oxts"),
        (_fields(_0="nan"), "damaged oxts"),
        (_fields(_5="inf"), "damaged oxts"),
        (_fields(_0=90), "damaged oxts"),
        (None, "missing oxts"),
    ],
)
def test_damaged_oxts_is_skipped_with_its_reason(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    path = tmp_path / "0000000000.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SkippedPair) as skipped:
        read_oxts(path)
    assert skipped.value.reason == reason
    assert path.name in skipped.value.detail


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-7], "truncated scan"),
        (lambda data: b"", "truncated scan"),
        (lambda data: data[: len(data) // 32 * 16], "truncated scan"),
        (lambda data: data[: len(data) // 32 * 16] + bytes(160_000), "truncated scan"),
        (lambda data: np.full(len(data) // 4, np.nan, np.float32).tobytes(), "truncated scan"),
    ],
)
def test_damaged_scan_is_skipped_with_its_reason(
    world_root: Path, tmp_path: Path, damage: object, reason: str
) -> None:
    whole = world_root / DATE / DRIVE / "velodyne_points" / "data" / "0000000000.bin"
    assert read_scan(whole)[0].shape[1] == 4
    path = tmp_path / "0000000000.bin"
    path.write_bytes(damage(whole.read_bytes()))
    with pytest.raises(SkippedPair) as skipped:
        read_scan(path)
    assert skipped.value.reason == reason


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0, 1e30])
def test_bad_points_cost_themselves_only(world_root: Path, tmp_path: Path, value: float) -> None:
    whole = world_root / DATE / DRIVE / "velodyne_points" / "data" / "0000000000.bin"
    path = tmp_path / "0000000000.bin"
    scan_N4, returned_N = read_scan(whole)
    assert returned_N.all()
    bad_N4 = scan_N4.copy()
    bad_N4[::7, :3] = value
    bad_N4[1::7, 3] = value
    bad_N4.tofile(path)
    good_N = np.arange(len(bad_N4)) % 7 > 0
    found_R4, returned_N = read_scan(path)
    np.testing.assert_array_equal(returned_N, good_N)
    np.testing.assert_array_equal(found_R4[:, :3], scan_N4[good_N, :3])
    assert np.isfinite(found_R4).all()
    # Bad rows at the end hide neither the lower rings nor that they are missing.
    padding_N4 = np.full((9000, 4), value, np.float32)
    np.vstack([bad_N4, padding_N4]).tofile(path)
    assert len(read_scan(path)[0]) == len(found_R4)
    np.vstack([bad_N4[: len(bad_N4) // 2], padding_N4]).tofile(path)
    with pytest.raises(SkippedPair, match="lower rings are missing"):
        read_scan(path)


def test_calibration_saved_by_an_editor(day: Path) -> None:
    expected = read_calibration(day, 2)
    for path in day.glob("calib_*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    found = read_calibration(day, 2)
    np.testing.assert_array_equal(found.T_cam_imu, expected.T_cam_imu)
    np.testing.assert_array_equal(found.K, expected.K)


def test_files_of_another_suffix(tmp_path: Path) -> None:
    image = np.full((30, 50, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "0000000003.JPG"), image)
    (tmp_path / "._0000000003.JPG").touch()
    (tmp_path / "0000000003.txt").touch()
    files = FrameFiles(tmp_path, PHOTO_SUFFIXES, 10)
    np.testing.assert_array_equal(read_image(files.path(3), (50, 30)), image)
    assert (files.state(3), files.state(4)) == ((tmp_path / "0000000003.JPG").stat().st_size, -1)
    assert files.path(4) == tmp_path / "0000000004.png"
    (tmp_path / "0000000003.png").write_bytes(b"12")
    files = FrameFiles(tmp_path, PHOTO_SUFFIXES, 10)
    assert (files.path(3), files.state(3)) == (tmp_path / "0000000003.png", 2)


def test_damaged_images_are_skipped_with_their_reason(tmp_path: Path) -> None:
    image = np.random.default_rng().integers(0, 256, (30, 50, 3), dtype=np.uint8)
    data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    path = tmp_path / "0000000000.png"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_image(path, (50, 30)), image)

    middle = bytearray(data)
    middle[len(data) // 2] ^= 255
    for damaged in (data[:-20], data[: len(data) // 2], b"", bytes(middle)):
        path.write_bytes(damaged)
        with pytest.raises(SkippedPair) as skipped:
            read_image(path, (50, 30))
        assert skipped.value.reason == "damaged image"
    path.write_bytes(data)
    with pytest.raises(SkippedPair, match="image size differs"):
        read_image(path, (51, 30))
    path.unlink()
    with pytest.raises(SkippedPair, match="missing image"):
        read_image(path, (50, 30))


def test_tracklets(world_root: Path, tmp_path: Path) -> None:
    tracklets = read_tracklets(world_root / DATE / DRIVE / "tracklet_labels.xml")
    assert tracklets
    assert all(len(one.poses) >= 1 and min(one.size) > 0.5 for one in tracklets)
    assert read_tracklets(tmp_path / "absent.xml") == []
    for text in (
        "",
        "<a>",
        "<boost_serialization><tracklets><item/></tracklets></boost_serialization>",
    ):
        (tmp_path / "damaged.xml").write_text(text)
        with pytest.raises(UserError, match=r"damaged\.xml: not a KITTI tracklet file"):
            read_tracklets(tmp_path / "damaged.xml")
