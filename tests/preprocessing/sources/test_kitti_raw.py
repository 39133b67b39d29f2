"""The kitti-raw source on synthetic drives with exact truth, and on real ones."""

import itertools
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pykitti
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.errors import SkippedPair, UserError
from ucn.geometry.rigid import inside_image
from ucn.preprocessing.labels.lidar.pairs import LidarMatches, match_scans
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.sources.base import PairReader, PairRef, Source
from ucn.preprocessing.sources.kitti.drive import Drive, find_drives
from ucn.preprocessing.sources.kitti.drive_lists import EIGEN_TEST, VALIDATION
from ucn.preprocessing.sources.kitti.files import Tracklet
from ucn.preprocessing.sources.kitti.raw import KittiRawConfig
from ucn.preprocessing.sources.kitti.tracklets import (
    cut_objects,
    labelled_objects,
    on_moving_object,
)

DATE = "2011_09_26"


def open_source(root: Path, **options: object) -> Source:
    return KittiRawConfig(root=str(root), out="unused", **options).open_source()


def reproject(root: Path, drive: str, sample: Sample, frames: list[int] | None = None) -> float:
    """Largest distance of matches from a reprojection by pykitti's calibration and poses, pixels.

    Each match is lifted by its depth, moved by the oxts, and projected with the full P_rect.
    """
    data = pykitti.raw(str(root), DATE, drive)
    numbers = [int(Path(file).stem) for file in data.oxts_files]
    P, R_rect = data.calib.P_rect_20, data.calib.R_rect_00
    rect0_imu = R_rect @ data.calib.T_cam0_velo_unrect @ data.calib.T_velo_imu
    T_w = [
        data.oxts[numbers.index(int(sample.metadata[name]))].T_w_imu
        for name in ("frame0", "frame1")
    ]
    x0_N2 = sample.matches_N4[:, :2].astype(np.float64)
    depth_N = sample.attributes["depth0"].astype(np.float64)
    homogeneous_N3 = np.c_[x0_N2, np.ones(len(x0_N2))] * depth_N[:, None]
    rect0_N3 = np.linalg.solve(P[:, :3], (homogeneous_N3 - P[:, 3]).T).T
    T_1_0 = rect0_imu @ np.linalg.inv(T_w[1]) @ T_w[0] @ np.linalg.inv(rect0_imu)
    moved_N4 = np.c_[rect0_N3, np.ones(len(rect0_N3))] @ T_1_0.T
    projected_N3 = moved_N4 @ P.T
    x1_N2 = projected_N3[:, :2] / projected_N3[:, 2:]
    return float(np.abs(x1_N2 - sample.matches_N4[:, 2:]).max())


def test_pairs_are_ordered_and_complete(world_root: Path) -> None:
    source = open_source(world_root, gaps=(1, 3))
    pairs = source.pairs()
    expected = {
        (f"{DATE}_drive_000{drive}-image_02", f"{frame:010d}", f"{frame + gap:010d}")
        for drive in (1, 2)
        for gap in (1, 3)
        for frame in range(8 - gap)
    }
    assert set(map(tuple, pairs)) == expected
    assert pairs == sorted(pairs)
    assert source.key(pairs[0]) == f"{DATE}_drive_0001-image_02-0000000000-0000000001"


@pytest.mark.parametrize("drive", ["0001", "0002"])
def test_matches_agree_with_an_independent_reprojection(world_root: Path, drive: str) -> None:
    source = open_source(world_root, drives=(drive,), gaps=(1, 4), min_matches=1)
    for pair in source.pairs():
        # Depths are stored as float32: their rounding moves a match by far less than the bound.
        assert reproject(world_root, drive, source.load(pair)) < 0.01


def truth(root: Path, drive: str, frame: str) -> dict[str, np.ndarray]:
    with np.load(root / "truth" / f"{DATE}_drive_{drive}_sync" / f"{frame}.npz") as arrays:
        return dict(arrays)


def at(values_HW: np.ndarray, points_N2: np.ndarray) -> np.ndarray:
    height, width = values_HW.shape
    columns = np.clip(np.rint(points_N2[:, 0]).astype(int), 0, width - 1)
    rows = np.clip(np.rint(points_N2[:, 1]).astype(int), 0, height - 1)
    return values_HW[rows, columns]


def depth_range(depth_HW: np.ndarray, radius: int = 2) -> tuple[np.ndarray, np.ndarray]:
    kernel = np.ones((2 * radius + 1,) * 2, np.uint8)
    finite_HW = np.where(np.isfinite(depth_HW) & (depth_HW > 0), depth_HW, 1e4).astype(np.float32)
    return cv2.erode(finite_HW, kernel), cv2.dilate(finite_HW, kernel)


@pytest.mark.parametrize("tracklets", [True, False])
def test_matches_are_visible_and_static_in_the_exact_world(
    world_root: Path, tmp_path: Path, tracklets: bool
) -> None:
    """No match is hidden by more than 6 % of its depth and 0.3 m, but for 1 in 500."""
    root = world_root
    if not tracklets:
        root = tmp_path / "unlabelled"
        root.mkdir()
        _link_without_tracklets(world_root, root)
    source = open_source(root, gaps=(1, 3), min_matches=1)
    hidden = moving = total = 0
    for pair in source.pairs()[::3]:
        sample = source.load(pair)
        for frame, points_N2, depth in (
            (pair.frame0, sample.matches_N4[:, :2], sample.attributes["depth0"]),
            (pair.frame1, sample.matches_N4[:, 2:], sample.attributes["depth1"]),
        ):
            exact = truth(world_root, drive_of(pair), frame)
            low_HW, high_HW = depth_range(exact["depth"])
            # A point nearer than every surface around it floats; one farther is hidden.
            hidden += int(np.sum(depth > 1.06 * at(high_HW, points_N2) + 0.3))
            hidden += int(np.sum(depth < 0.94 * at(low_HW, points_N2) - 0.3))
            moving += int(np.sum(at(exact["instance"], points_N2) > 0))
        total += len(sample.matches_N4)
    assert total > 50_000
    assert hidden / total < 0.002
    assert moving / total < (0.002 if tracklets else 0.01)


def drive_of(pair: PairRef) -> str:
    return pair.sequence.removesuffix("-image_02")[-4:]


@pytest.mark.parametrize("gap", [1, 3])
def test_movers_are_found_without_labels(world_root: Path, tmp_path: Path, gap: int) -> None:
    """By the world's own instances: at least 95 % of what goes moves, 95 % of what moves goes."""
    root = tmp_path / "unlabelled"
    root.mkdir()
    _link_without_tracklets(world_root, root)
    sequences = {
        drive.name: drive.reader(drive.frames)
        for folder in find_drives(root)
        for drive in (Drive(folder, 2),)
    }
    right = wrong = leaked = movers = 0
    for pair in open_source(root, gaps=(gap,), min_matches=1).pairs():
        sequence = sequences[pair.sequence]
        frames = [sequence.read(int(frame)) for frame in (pair.frame0, pair.frame1)]
        T_1_0 = np.linalg.inv(frames[1].T_world_cam) @ frames[0].T_world_cam
        view = frames[0].view
        found = match_scans(
            view, frames[1].view, T_1_0, sequence.rig, np.zeros(len(view.source_N), bool)
        )
        exact = [truth(world_root, drive_of(pair), frame) for frame in (pair.frame0, pair.frame1)]
        travel = np.linalg.norm(
            exact[0]["T_world_movers"][:, :3, 3] - exact[1]["T_world_movers"][:, :3, 3], axis=1
        )
        instance_N = at(exact[0]["instance"], view.view.pixels_2N.T)
        # What moves by less than a hand's breadth between the frames is neither right nor wrong.
        moves_N = np.isin(instance_N, 1 + np.flatnonzero(travel > 0.15))
        stands_N = ~mask_near(exact[0]["instance"] > 0, view.view.pixels_2N.T)
        right += int(moves_N[found.moving_K].sum())
        wrong += int(stands_N[found.moving_K].sum())
        leaked += int(moves_N[found.index_M].sum())
        movers += int(moves_N[found.index_M].sum() + moves_N[found.moving_K].sum())
    assert movers > 3000
    assert right / (right + wrong) > 0.95
    assert 1 - leaked / movers > 0.95


def mask_near(mask_HW: np.ndarray, points_N2: np.ndarray) -> np.ndarray:
    """Whether the mask holds within a pixel of each point."""
    return at(cv2.dilate(mask_HW.astype(np.uint8), np.ones((3, 3), np.uint8)), points_N2) > 0


def _link_without_tracklets(root: Path, copy: Path) -> None:
    (copy / DATE).mkdir()
    for path in (root / DATE).iterdir():
        if path.is_file():
            (copy / DATE / path.name).symlink_to(path)
            continue
        (copy / DATE / path.name).mkdir()
        for part in path.iterdir():
            if part.name != "tracklet_labels.xml":
                (copy / DATE / path.name / part.name).symlink_to(part)


def test_most_visible_static_points_are_kept(world_root: Path) -> None:
    """Nine in ten, of those that the world's exact depth shows in both images."""
    sequences = {
        drive.name: drive.reader(drive.frames)
        for folder in find_drives(world_root)
        for drive in (Drive(folder, 2),)
    }
    kept = visible = 0
    for pair in open_source(world_root, gaps=(1,), min_matches=1).pairs()[::2]:
        sequence = sequences[pair.sequence]
        frames = [sequence.read(int(frame)) for frame in (pair.frame0, pair.frame1)]
        T_1_0 = np.linalg.inv(frames[1].T_world_cam) @ frames[0].T_world_cam
        view = frames[0].view
        found = match_scans(
            view, frames[1].view, T_1_0, sequence.rig, np.zeros(len(view.source_N), bool)
        )
        points_N3 = view.points_3N.T @ T_1_0[:3, :3].T + T_1_0[:3, 3]
        pixels_N2 = (points_N3 @ sequence.rig.K.T)[:, :2] / points_N3[:, 2:]
        inside_N = (points_N3[:, 2] > 1) & inside_image(pixels_N2, sequence.rig.size)
        for frame, where_N2, depth_N in (
            (pair.frame0, view.view.pixels_2N.T, view.view.depth_N),
            (pair.frame1, pixels_N2, points_N3[:, 2]),
        ):
            exact = truth(world_root, drive_of(pair), frame)
            where_N2 = np.where(inside_N[:, None], where_N2, 0)
            inside_N &= np.abs(at(exact["depth"], where_N2) - depth_N) < 0.03 * depth_N + 0.05
            inside_N &= at(exact["instance"], where_N2) == 0
        visible += int(inside_N.sum())
        kept += int(inside_N[found.index_M].sum())
    assert visible > 20_000
    assert kept / visible > 0.9


def test_max_matches_takes_a_seeded_sample(world_root: Path) -> None:
    pair = open_source(world_root).pairs()[0]
    everything = open_source(world_root).load(pair).matches_N4
    one, again, other = (
        open_source(world_root, max_matches=300, seed=seed).load(pair) for seed in (1, 1, 2)
    )
    assert len(one.matches_N4) == len(other.matches_N4) == 300
    np.testing.assert_array_equal(one.matches_N4, again.matches_N4)
    assert not np.array_equal(one.matches_N4, other.matches_N4)
    assert {tuple(row) for row in one.matches_N4} <= {tuple(row) for row in everything}
    assert one.metadata["rejected"]["beyond max_matches"] == len(everything) - 300


def test_partners_are_chosen_by_overlap(world_root: Path) -> None:
    source = open_source(world_root, overlaps=(0.9, 0.7), max_gap=7, min_matches=1)
    pairs = source.pairs()
    assert pairs == sorted(set(pairs))
    gaps = {int(pair.frame1) - int(pair.frame0) for pair in pairs}
    assert len(gaps) > 1
    assert max(gaps) <= 7
    overlaps = []
    for share in (0.9, 0.7):
        chosen = open_source(world_root, overlaps=(share,), max_gap=7).pairs()[::3]
        overlaps.append(np.mean([source.load(pair).metadata["overlap"] for pair in chosen]))
    assert overlaps[0] > overlaps[1] > 0.3


def test_pairs_of_too_little_overlap_are_skipped(world_root: Path) -> None:
    source = open_source(world_root, gaps=(1,), min_overlap=0.99, min_matches=1)
    with pytest.raises(SkippedPair, match=r"too little overlap: 0\.[0-9]+ of at least 0\.99"):
        source.load(source.pairs()[0])


def test_pairs_of_too_little_motion_are_skipped(world_root: Path) -> None:
    def motion(sample: Sample) -> float:
        return float(np.linalg.norm(np.array(sample.metadata["T_1_0"])[:3, 3]))

    source = open_source(world_root, gaps=(1, 5))
    short, long = (
        next(pair for pair in source.pairs() if int(pair.frame1) - int(pair.frame0) == gap)
        for gap in (1, 5)
    )
    between = (motion(source.load(short)) + motion(source.load(long))) / 2
    source = open_source(world_root, gaps=(1, 5), min_motion=between)
    assert motion(source.load(long)) >= between
    with pytest.raises(SkippedPair, match=r"too little motion: \d\.\d\d m of at least"):
        source.load(short)


def test_the_real_standing_car_is_left_out(shared_data: Path) -> None:
    """At frames 70 and 71 the car stands; oxts jitter by centimetres."""
    source = open_source(real_root(shared_data), gaps=(1,), min_motion=0.1)
    pairs = {int(pair.frame0): pair for pair in source.pairs()}
    assert source.load(pairs[0]).metadata["matches"] > 1000
    with pytest.raises(SkippedPair, match="too little motion"):
        source.load(pairs[70])


def test_no_partner_of_that_overlap_is_told(world_root: Path) -> None:
    with pytest.raises(UserError, match="--overlaps"):
        open_source(world_root, overlaps=(0.01,), max_gap=2).pairs()


def test_the_lists_share_no_drive_and_choose_by_split(world_root: Path, tmp_path: Path) -> None:
    assert len(EIGEN_TEST) == 28
    assert not EIGEN_TEST & VALIDATION
    day = tmp_path / DATE
    day.mkdir()
    for number in ("0001", "0005", "0052"):
        (day / f"{DATE}_drive_{number}_sync").symlink_to(
            world_root / DATE / f"{DATE}_drive_0001_sync"
        )
    for path in (world_root / DATE).glob("*.txt"):
        (day / path.name).symlink_to(path)
    for split, number in (("train", "0001"), ("val", "0005"), ("test", "0052")):
        pairs = open_source(tmp_path, lists="eigen", split=split).pairs()
        assert {pair.sequence for pair in pairs} == {f"{DATE}_drive_{number}-image_02"}
    with pytest.raises(UserError, match="--split holdout"):
        open_source(tmp_path, lists="eigen", split="holdout")
    with pytest.raises(
        UserError, match=r"no drive of the val list, but 1 drive of test, 1 drive of train;"
    ):
        open_source(world_root, lists="eigen", split="val")


def test_wrong_folders_are_refused(world_root: Path, tmp_path: Path) -> None:
    for root, message in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path, "holds no DATE/DATE_drive"),
        (world_root / DATE, "pass the folder above the day"),
        (world_root / DATE / f"{DATE}_drive_0001_sync", "pass the folder above the day"),
    ):
        with pytest.raises(UserError, match=message):
            open_source(root)
    with pytest.raises(UserError, match=r"no drive 0077; there are .*0001"):
        open_source(world_root, drives=("0077",))
    with pytest.raises(UserError, match="no two frames lie 50 apart"):
        open_source(world_root, gaps=(50,)).pairs()


def test_unsynced_drives_are_refused_unless_there_are_synced_ones(
    world_root: Path, tmp_path: Path
) -> None:
    day = tmp_path / DATE
    extract = day / f"{DATE}_drive_0001_extract"
    (extract / "image_02").mkdir(parents=True)
    for path in (world_root / DATE).glob("*.txt"):
        (day / path.name).symlink_to(path)
    with pytest.raises(UserError, match=r"drive_0001_extract: is unsynced.*synced\+rectified data"):
        open_source(tmp_path)
    (day / f"{DATE}_drive_0002_sync").symlink_to(world_root / DATE / f"{DATE}_drive_0002_sync")
    assert {pair.sequence for pair in open_source(tmp_path).pairs()} == {
        f"{DATE}_drive_0002-image_02"
    }
    for name in ("0001", f"{DATE}_drive_0001", extract.name):
        with pytest.raises(UserError, match="drive_0001_extract: is unsynced"):
            open_source(tmp_path, drives=(name, "0002"))


@pytest.fixture
def two_cameras(world_root: Path, tmp_path: Path) -> Path:
    """The two drives; camera 3 of drive 0001 has the images of camera 2."""
    root = tmp_path / "two"
    shutil.copytree(world_root, root)
    drive = root / DATE / f"{DATE}_drive_0001_sync"
    shutil.copytree(drive / "image_02", drive / "image_03")
    return root


def test_each_camera_is_paired_with_itself(two_cameras: Path) -> None:
    one, two, both = (
        open_source(two_cameras, drives=("0001",), gaps=(1,), **options)
        for options in ({}, {"camera": 3}, {"cameras": (3, 2)})
    )
    assert both.pairs() == one.pairs() + two.pairs()
    left, right = one.pairs()[0], two.pairs()[0]
    assert both.key(left) == one.key(left) == f"{DATE}_drive_0001-image_02-0000000000-0000000001"
    assert both.key(right) == f"{DATE}_drive_0001-image_03-0000000000-0000000001"
    for source, pair in ((one, left), (two, right)):
        assert outcome(both, pair) == outcome(source, pair)
        assert both.input_fingerprint(pair) == source.input_fingerprint(pair)
    assert both.load(left).metadata["K0"] == one.load(left).metadata["K0"]


def test_all_cameras_are_those_with_images(
    two_cameras: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = {pair.sequence for pair in open_source(two_cameras, cameras="all").pairs()}
    assert names == {
        f"{DATE}_drive_0001-image_02",
        f"{DATE}_drive_0001-image_03",
        f"{DATE}_drive_0002-image_02",
    }
    assert "takes image_02, image_03" in caplog.text
    with pytest.raises(UserError, match=r"drive_0002_sync/image_03/data: holds no images"):
        open_source(two_cameras, cameras=(2, 3))


def test_no_camera_is_told(tmp_path: Path) -> None:
    (tmp_path / DATE / f"{DATE}_drive_0001_sync" / "oxts").mkdir(parents=True)
    with pytest.raises(UserError, match="image_00/data: holds no images"):
        open_source(tmp_path, cameras="all")


def real_root(shared_data: Path) -> Path:
    return shared_data / "kitti_raw"


def test_real_matches_agree_with_an_independent_reprojection(shared_data: Path) -> None:
    source = open_source(real_root(shared_data))
    for pair in source.pairs():
        assert reproject(real_root(shared_data), "0052", source.load(pair)) < 0.01


def test_real_matches_agree_with_sift(shared_data: Path) -> None:
    """Sub-pixel SIFT matches move as the projected points beside them do."""
    source = open_source(real_root(shared_data), gaps=(1,))
    sift = cv2.SIFT_create(4000)
    differences = []
    for pair in source.pairs()[:5]:
        sample = source.load(pair)
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (sample.image0, sample.image1)]
        (keys0, rows0), (keys1, rows1) = (sift.detectAndCompute(image, None) for image in grey)
        found = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(rows0, rows1)
        flows = np.array(
            [[*keys0[m.queryIdx].pt, *keys1[m.trainIdx].pt] for m in found if m.distance < 150]
        )
        gaps = np.linalg.norm(flows[:, None, :2] - sample.matches_N4[None, :, :2], axis=2)
        near = gaps.min(1) < 2.0
        beside = sample.matches_N4[gaps.argmin(1)][near]
        difference = (flows[near, 2:] - flows[near, :2]) - (beside[:, 2:] - beside[:, :2])
        differences.append(np.linalg.norm(difference, axis=1))
    assert len(np.concatenate(differences)) > 300
    assert np.median(np.concatenate(differences)) < 1.5


def test_the_real_crossing_van_is_gone(shared_data: Path) -> None:
    """In frames 70 and 71 the recording car stands; a white van crosses at (551-606, 160-187).

    Beams that meet the grass behind its front window say nothing of it.
    """
    source = open_source(real_root(shared_data), gaps=(1,))
    sample = source.load(PairRef(f"{DATE}_drive_0052-image_02", "0000000070", "0000000071"))
    assert sample.metadata["rejected"]["on a moving object"] >= 12
    x, y = sample.matches_N4[:, 0], sample.matches_N4[:, 1]
    on_van = (x > 553) & (x < 590) & (y > 163) & (y < 181)
    assert not on_van.any()
    assert len(sample.matches_N4) > 12_000


def test_the_real_sliding_truck_is_gone(shared_data: Path) -> None:
    """In frames 0 and 1 a truck drives by on the right; its side covers its former place."""
    source = open_source(real_root(shared_data), gaps=(1,))
    sample = source.load(PairRef(f"{DATE}_drive_0052-image_02", "0000000000", "0000000001"))
    assert sample.metadata["rejected"]["moves in the images"] > 2500
    x, y = sample.matches_N4[:, 0], sample.matches_N4[:, 1]
    assert not ((x > 820) & (x < 1180) & (y > 140) & (y < 250)).any()
    # The cars ahead and on the left stand.
    assert ((x > 80) & (x < 270) & (y > 200) & (y < 350)).sum() > 300
    standing = source.load(PairRef(f"{DATE}_drive_0052-image_02", "0000000070", "0000000071"))
    assert standing.metadata["rejected"]["moves in the images"] == 0


@pytest.mark.parametrize("pose_inconsistency", [0.3, 0.97])
def test_a_pose_that_the_road_contradicts_is_no_pose(
    world_root: Path, monkeypatch: pytest.MonkeyPatch, pose_inconsistency: float
) -> None:
    def found(*arguments: Any) -> LidarMatches:
        return replace(match_scans(*arguments), pose_inconsistency=pose_inconsistency)

    monkeypatch.setattr("ucn.preprocessing.sources.kitti.lidar.match_scans", found)
    source = open_source(world_root, gaps=(1,))
    if pose_inconsistency < 0.5:
        assert len(source.load(source.pairs()[0]).matches_N4) > 200
    else:
        with pytest.raises(SkippedPair, match=r"pose contradicts the images: 97% of the road's"):
            source.load(source.pairs()[0])


def test_missing_frames_are_skipped_with_their_reason(world_root: Path, tmp_path: Path) -> None:
    shutil.copytree(world_root, tmp_path / "raw")
    source = open_source(tmp_path / "raw", drives=("0001",), gaps=(1,))
    drive = tmp_path / "raw" / DATE / f"{DATE}_drive_0001_sync"
    for frame, name, suffix in ((1, "image_02", "png"), (3, "velodyne_points", "bin")):
        (drive / name / "data" / f"{frame:010d}.{suffix}").unlink()
    oxts = drive / "oxts" / "data"
    (oxts / "0000000005.txt").write_text("damaged")
    for frame in (1, 7):
        (oxts / f"{frame:010d}.txt").unlink()
    reasons = []
    for pair in source.pairs():
        try:
            source.load(pair)
            reasons.append("")
        except SkippedPair as skipped:
            reasons.append(str(skipped))
    image, scan = "missing image: 0000000001.png", "missing scan: 0000000003.bin"
    oxts5, oxts7 = "damaged oxts: 0000000005.txt: not numbers", "missing oxts: 0000000007.txt"
    # The reason of the image precedes that of the pose.
    assert reasons == [image, image, scan, scan, oxts5, oxts5, oxts7]


def test_a_task_reads_only_images_and_scans(world_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    shutil.copytree(world_root, root)
    drive = root / DATE / f"{DATE}_drive_0001_sync"
    (drive / "oxts" / "data" / "0000000002.txt").write_text("damaged")
    source = open_source(root, drives=("0001",), gaps=(1, 5))
    pairs = [pair for pair in source.pairs() if pair.frame0 <= "0000000003"]
    expected = [outcome(source, pair) for pair in pairs]
    assert "damaged oxts: 0000000002.txt: not numbers" in expected
    readers = [pickle.dumps(source.reader(pairs))]
    readers += [pickle.dumps(source.reader([pair])) for pair in pairs]
    shutil.rmtree(drive / "oxts")
    for path in (drive / "tracklet_labels.xml", *(root / DATE).glob("calib_*.txt")):
        path.unlink()
    whole, *single = map(pickle.loads, readers)
    assert [outcome(whole, pair) for pair in pairs] == expected
    assert [outcome(one, pair) for one, pair in zip(single, pairs, strict=True)] == expected
    # A reader that has read frames is pickled without them.
    assert len(pickle.dumps(whole)) < len(readers[0]) + 100


@given(st.integers(-3, 12), st.integers(1, 12), st.integers(0, 2**32))
def test_labelled_objects_are_cut_to_the_frames_of_the_pairs(
    first: int, length: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    poses_F4 = rng.normal(scale=0.2, size=(length, 4))
    tracklet = Tracklet("Car", (2.0, 2.0, 2.0), first, poses_F4)
    known = rng.random(24) < 0.8
    objects = labelled_objects([tracklet], lambda frame: np.eye(4) if known[frame] else None)
    frames = sorted(rng.choice(12, 4, replace=False).tolist())
    cut = cut_objects(objects, frames)
    assert sum(len(one.path_F3) for one in cut) <= frames[-1] + 1 - frames[0]
    points_3N = rng.normal(size=(3, 20))
    for frame0, frame1 in itertools.combinations(frames, 2):
        np.testing.assert_array_equal(
            on_moving_object(cut, points_3N, frame0, frame1),
            on_moving_object(objects, points_3N, frame0, frame1),
        )


def outcome(reader: PairReader, pair: PairRef) -> bytes | str:
    try:
        return pickle.dumps(reader.load(pair))
    except SkippedPair as skipped:
        return str(skipped)
