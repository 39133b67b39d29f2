"""Synthetic drives: the files that readers of KITTI raw get, against the truth beside them."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pykitti
import pytest

from ucn.errors import UserError
from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.kitti_writer import (
    drive_folder,
    frame_files,
    truth_folder,
    write_frames,
    write_static_files,
    write_world,
)
from ucn.preprocessing.sources.synthetic.source import SyntheticConfig

# No noise in camera and scanner: everything that differs between frames is geometry.
SPEC = WorldSpec(
    seed=11,
    frames=4,
    width=414,
    height=125,
    movers=6,
    speed=0.9,
    scan_degrees=100,
    range_noise=0,
    dropout=0,
    photometric=0,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    write_world(folder, SPEC)
    return folder


@pytest.fixture(scope="module")
def recording(root):
    return pykitti.raw(str(root), SPEC.date, f"{SPEC.drive:04d}")


def truth(root: Path, frame: int):
    return np.load(truth_folder(root, SPEC) / f"{frame:010d}.npz", allow_pickle=False)


def full_projection(calibration) -> np.ndarray:
    """Scanner to image of camera 2 with the whole P_rect, which pykitti's shortcut cuts."""
    rectify = np.eye(4)
    rectify[:3, :3] = calibration.R_rect_00[:3, :3]
    return calibration.P_rect_20 @ rectify @ calibration.T_cam0_velo_unrect


def inverse_depth_at(depth_HW: np.ndarray, xy_N2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse depth at sub-pixel positions, exact on a plane, and whether there is one."""
    inverse = 1 / depth_HW.astype(np.float64)
    x0, y0 = np.floor(xy_N2).astype(int).T
    dx, dy = (xy_N2 - np.floor(xy_N2)).T
    a, b = inverse[y0, x0], inverse[y0, x0 + 1]
    c, d = inverse[y0 + 1, x0], inverse[y0 + 1, x0 + 1]
    value = (a * (1 - dx) + b * dx) * (1 - dy) + (c * (1 - dx) + d * dx) * dy
    return value, (np.abs(a - b - c + d) < 1e-5 * value) & (value > 0)


def true_flow(root: Path, frame0: int, frame1: int):
    """Pixels [N, 2] of frame 0, where they are in frame 1 [N, 2], and their depth there [N]."""
    first, second = truth(root, frame0), truth(root, frame1)
    y, x = np.nonzero(np.isfinite(first["depth"]))
    depth, instance = first["depth"][y, x].astype(np.float64), first["instance"][y, x]
    rays = np.linalg.solve(first["K"], np.stack([x, y, np.ones_like(x)]).astype(np.float64))
    points = np.concatenate([rays * depth, np.ones((1, len(x)))])
    world = first["T_world_cam"] @ points
    for mover in range(1, len(first["T_world_movers"]) + 1):
        motion = second["T_world_movers"][mover - 1] @ np.linalg.inv(
            first["T_world_movers"][mover - 1]
        )
        world[:, instance == mover] = motion @ world[:, instance == mover]
    seen = second["K"] @ (np.linalg.inv(second["T_world_cam"]) @ world)[:3]
    return np.stack([x, y], axis=1), (seen[:2] / seen[2]).T, seen[2]


def test_pykitti_reads_everything(recording):
    assert len(recording.oxts) == len(recording.timestamps) == SPEC.frames
    assert recording.get_cam2(1).size == (SPEC.width, SPEC.height)
    assert recording.get_velo(1).shape[0] > 5000
    assert np.all(np.abs(recording.calib.P_rect_20[:, 3]) > 0)
    rotation = recording.calib.R_rect_00[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert not np.allclose(rotation, np.eye(3), atol=1e-3)


def test_oxts_give_back_the_true_poses(root, recording):
    rectify = np.eye(4)
    rectify[:3, :3] = recording.calib.R_rect_00[:3, :3]
    shift = np.eye(4)
    projection = recording.calib.P_rect_20
    shift[:3, 3] = np.linalg.solve(projection[:, :3], projection[:, 3])
    camera_imu = shift @ rectify @ recording.calib.T_cam0_velo_unrect @ recording.calib.T_velo_imu
    for frame in range(SPEC.frames):
        expected = truth(root, frame)["T_world_cam"]
        got = recording.oxts[frame].T_w_imu @ np.linalg.inv(camera_imu)
        np.testing.assert_allclose(got, expected, atol=1e-7)


def test_scan_lies_on_the_true_depth(root, recording):
    depth = truth(root, 2)["depth"]
    points = recording.get_velo(2).astype(np.float64)
    points[:, 3] = 1
    projected = points @ full_projection(recording.calib).T
    projected = projected[projected[:, 2] > 1]
    xy, z = projected[:, :2] / projected[:, 2:], projected[:, 2]
    inside = ((xy >= 0) & (xy < np.array([SPEC.width, SPEC.height]) - 1)).all(axis=1)
    inverse, flat = inverse_depth_at(depth, xy[inside])
    error = np.abs(z[inside] * inverse - 1)[flat]
    assert flat.sum() > 3000
    # What is left is in sight of the scanner but hidden from the camera beside it.
    assert np.mean(error < 1e-4) > 0.97


def test_true_flow_keeps_the_colours(root, recording):
    pixels, target, depth1 = true_flow(root, 0, 1)
    inside = ((target >= 1) & (target < np.array([SPEC.width, SPEC.height]) - 2)).all(axis=1)
    pixels, target, depth1 = pixels[inside], target[inside], depth1[inside]
    inverse, flat = inverse_depth_at(truth(root, 1)["depth"], target)
    visible = flat & (np.abs(depth1 * inverse - 1) < 0.01)
    pixels, target = pixels[visible], target[visible].astype(np.float32)
    images = [np.asarray(recording.get_cam2(k).convert("L"), np.float32) for k in (0, 1)]
    colours = images[0][pixels[:, 1], pixels[:, 0]]

    def difference(shift: float) -> float:
        there = [
            cv2.remap(images[1], part[:, :1] + np.float32(shift), part[:, 1:], cv2.INTER_LINEAR)
            for part in np.array_split(target, 4)
        ]
        return float(np.abs(np.concatenate(there)[:, 0] - colours).mean())

    assert len(pixels) > 10000
    assert difference(0) < 0.6 * min(difference(-1), difference(1))


def test_movers_move_in_the_image(root):
    instances = np.unique(np.concatenate([truth(root, k)["instance"].ravel() for k in range(4)]))
    moved = [truth(root, k)["T_world_movers"][:, :3, 3] for k in (0, 3)]
    assert len(instances) > 1
    assert instances.max() <= SPEC.movers == len(moved[0])
    assert np.linalg.norm(moved[1] - moved[0], axis=1).min() > 0.5


def test_tracklets_follow_the_movers(root, recording):
    tree = ElementTree.parse(drive_folder(root, SPEC) / "tracklet_labels.xml")
    items = tree.getroot().find("tracklets").findall("item")
    assert int(tree.getroot().find("tracklets").find("count").text) == len(items)
    first = truth(root, 0)
    imu_velo = np.linalg.inv(recording.calib.T_velo_imu)
    steps, matched = [], 0
    for item in items:
        poses = item.find("poses").findall("item")
        start = int(item.find("first_frame").text)
        assert int(item.find("poses").find("count").text) == len(poses)
        assert start + len(poses) <= SPEC.frames
        world = [
            (
                recording.oxts[start + k].T_w_imu
                @ imu_velo
                @ [*(float(pose.find(name).text) for name in ("tx", "ty", "tz")), 1]
            )[:3]
            for k, pose in enumerate(poses)
        ]
        steps.append(np.linalg.norm(world[-1] - world[0]) / max(len(poses) - 1, 1))
        if start == 0:
            centres = first["T_world_movers"][:, :3, 3]
            matched += bool(np.linalg.norm(centres - world[0], axis=1).min() < 1e-5)
    steps = np.array(steps)
    assert matched >= 1
    assert np.all((steps < 1e-5) | (steps > 0.2))
    assert (steps < 1e-5).any()


def test_chunks_and_resume_give_the_same_bytes(root, tmp_path):
    write_static_files(tmp_path, SPEC)
    assert write_frames(tmp_path, SPEC, [2]) == 1
    assert write_frames(tmp_path, SPEC, [2]) == 0
    for path in frame_files(tmp_path, SPEC, 2):
        assert path.read_bytes() == (root / path.relative_to(tmp_path)).read_bytes()
    static = [path for path in tmp_path.rglob("*") if path.suffix in (".txt", ".xml")]
    assert len(static) > SPEC.frames
    for path in static:
        assert path.read_bytes() == (root / path.relative_to(tmp_path)).read_bytes()


def test_another_drive_in_the_same_place_is_refused(root):
    with pytest.raises(UserError, match="another synthetic drive"):
        write_static_files(root, SPEC.model_copy(update={"seed": 12}))
    with pytest.raises(UserError, match="another synthetic date"):
        write_static_files(root, SPEC.model_copy(update={"drive": 9, "width": 400}))


def test_stop_stands_still_while_others_drive(tmp_path):
    spec = SPEC.model_copy(update={"frames": 12, "stop": (4, 7)})
    write_static_files(tmp_path, spec)
    recording = pykitti.raw(str(tmp_path), spec.date, f"{spec.drive:04d}")
    positions = np.array([packet.T_w_imu[:3, 3] for packet in recording.oxts])
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    assert np.all(steps[4:7] < 1e-6)
    assert np.all(steps[:3] > 0.05)
    assert np.all(steps[8:] > 0.05)


def test_all_cameras_see_the_world_from_their_own_place(tmp_path):
    spec = SPEC.model_copy(
        update={"frames": 1, "cameras": (0, 1, 2, 3), "truth": False, "width": 200, "height": 60}
    )
    write_world(tmp_path, spec)
    recording = pykitti.raw(str(tmp_path), spec.date, f"{spec.drive:04d}")
    grey, colour = recording.get_gray(0), recording.get_rgb(0)
    assert [image.mode for image in grey] == ["L", "L"]
    assert [image.mode for image in colour] == ["RGB", "RGB"]
    left, right = (np.asarray(image.convert("L"), np.float64) for image in colour)
    assert np.abs(left - right).mean() > 3
    assert not list(tmp_path.rglob("*.npz"))


def test_the_source_renders_all_cameras_that_it_pairs(tmp_path: Path) -> None:
    config = SyntheticConfig(
        root=str(tmp_path),
        out="unused",
        worlds=1,
        frames=2,
        width=128,
        cameras="all",
        gaps=(1,),
        min_matches=1,
        workers=0,
    )
    config.prepare()
    source = config.open_source()
    pairs = source.pairs()
    assert [pair.sequence[-8:] for pair in pairs] == [f"image_{camera:02d}" for camera in range(4)]
    assert [source.load(pair).image0.ndim for pair in pairs] == [2, 2, 3, 3]
