"""Writes a drive in KITTI raw's layout, and its exact ground truth in a separate folder."""

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.errors import UserError
from ucn.preprocessing.sources.synthetic import calibration
from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.materials.textures import F32, F64, U8
from ucn.preprocessing.sources.synthetic.scene.scenario import make_store, plan_scenario
from ucn.preprocessing.sources.synthetic.scene.trajectory import FRAMES_PER_SECOND
from ucn.preprocessing.sources.synthetic.scene.world import World, build_world
from ucn.preprocessing.sources.synthetic.sensors import oxts
from ucn.preprocessing.sources.synthetic.sensors.lidar import scan
from ucn.preprocessing.sources.synthetic.sensors.photometry import expose
from ucn.preprocessing.sources.synthetic.sensors.render import render_radiance
from ucn.preprocessing.sources.synthetic.sensors.view import depth_and_instances
from ucn.preprocessing.sources.synthetic.tracklets_xml import scenario_tracklets, tracklets_text
from ucn.storage.files import write_bytes, write_text

VERSION = 1
"""To be increased when equal specs give different bytes than before."""
TRUTH_CAMERA = 2
GREY_CAMERAS = (0, 1)


@dataclass(frozen=True)
class Truth:
    """Exact ground truth of camera 2, at pixel centres.

    ``depth_HW`` is the z depth in metres, inf in the sky. ``instance_HW`` is 0 for static surfaces
    and k for moving vehicle k. The origin of the poses is the first IMU position; the axes are
    east, north, up.
    """

    depth_HW: F32
    instance_HW: NDArray[np.uint8]
    K_33: F64
    T_world_cam: F64
    T_world_movers_M44: F64


@dataclass(frozen=True)
class RenderedFrame:
    """Sensor data of one frame. Images are uint8 [H, W, 3], or [H, W] for grey cameras."""

    images: dict[int, U8]
    points_N4: F32
    truth: Truth | None


def render_frame(world: World, frame: int) -> RenderedFrame:
    """Render images, scan and ground truth of one frame.

    The result depends only on the world's spec and the frame number.
    """
    images: dict[int, U8] = {}
    for camera in world.spec.cameras:
        image = expose(render_radiance(world, frame, camera), world.spec, frame, camera)
        if camera in GREY_CAMERAS:
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        images[camera] = image
    truth = render_truth(world, frame) if world.spec.truth else None
    return RenderedFrame(images, scan(world, frame), truth)


def render_truth(world: World, frame: int) -> Truth:
    """Compute exact depth, instances and poses of one frame."""
    depth, instances = depth_and_instances(world, frame, TRUTH_CAMERA)
    movers = [world.in_world(vehicle.poses_F44[frame]) for vehicle in world.movers]
    return Truth(
        depth,
        instances,
        world.rig.intrinsics(TRUTH_CAMERA),
        world.in_world(world.T_map_cam(frame, TRUTH_CAMERA)),
        np.array(movers, np.float64).reshape(-1, 4, 4),
    )


def write_world(root: Path, spec: WorldSpec) -> None:
    """Write a whole drive below ``root``. Existing files are kept.

    Raises:
        UserError: ``root`` has another calibration or drive with the same name, or cannot be
            written.
    """
    write_static_files(root, spec)
    write_frames(root, spec, range(spec.frames))


def write_frames(
    root: Path, spec: WorldSpec, frames: Iterable[int], world: World | None = None
) -> int:
    """Write the missing frames of a drive.

    Different processes and machines may write frames of one drive, in any order.

    Args:
        root: folder in KITTI raw's layout.
        spec: the drive.
        frames: frame numbers.
        world: the world of ``spec``; None builds it.

    Returns:
        Number of frames written.
    """
    missing = [k for k in frames if not all(path.exists() for path in frame_files(root, spec, k))]
    if missing and world is None:
        world = build_world(spec)
    for number in missing:
        assert world is not None
        frame = render_frame(world, number)
        contents = [_png(frame.images[camera]) for camera in spec.cameras]
        contents.append(frame.points_N4.astype("<f4").tobytes())
        if frame.truth is not None:
            contents.append(_npz(frame.truth))
        for path, data in zip(frame_files(root, spec, number), contents, strict=True):
            write_bytes(path, data)
    return len(missing)


def write_static_files(root: Path, spec: WorldSpec) -> None:
    """Write calibration, timestamps, oxts, tracklets and the spec.

    Raises:
        UserError: ``root`` has another calibration of this date, or the drive of another spec.
    """
    drive = drive_folder(root, spec)
    _claim(truth_folder(root, spec) / "spec.json", _identity(spec), "drive")
    rig = calibration.make_rig(spec)
    day = root / spec.date
    for name, text in {
        "calib_cam_to_cam.txt": calibration.cam_to_cam_text(rig, spec),
        "calib_velo_to_cam.txt": calibration.rigid_text(rig.T_cam0_velo),
        "calib_imu_to_velo.txt": calibration.rigid_text(rig.T_velo_imu),
    }.items():
        _claim(day / name, text, "date")
    tracklets = drive / "tracklet_labels.xml"
    if tracklets.exists():
        return
    scenario = plan_scenario(spec, *make_store(spec))
    stamps = timestamps(spec)
    for folder in ["oxts", "velodyne_points", *[f"image_{camera:02d}" for camera in spec.cameras]]:
        write_text(drive / folder / "timestamps.txt", stamps)
    write_text(drive / "oxts" / "dataformat.txt", oxts.DATA_FORMAT)
    for number, line in enumerate(oxts.packets(scenario.attitudes)):
        write_text(drive / "oxts" / "data" / f"{number:010d}.txt", line)
    write_text(tracklets, tracklets_text(scenario_tracklets(scenario)))


def drive_folder(root: Path, spec: WorldSpec) -> Path:
    """Folder of the drive's sensor data."""
    return root / spec.date / spec.drive_name


def truth_folder(root: Path, spec: WorldSpec) -> Path:
    """Folder of the drive's ground truth. Readers of KITTI raw do not look there."""
    return root / "truth" / spec.drive_name


def frame_files(root: Path, spec: WorldSpec, frame: int) -> list[Path]:
    """Files of one frame: images in the order of ``spec.cameras``, scan, ground truth if any."""
    drive = drive_folder(root, spec)
    files = [
        drive / f"image_{camera:02d}" / "data" / f"{frame:010d}.png" for camera in spec.cameras
    ]
    files.append(drive / "velodyne_points" / "data" / f"{frame:010d}.bin")
    if spec.truth:
        files.append(truth_folder(root, spec) / f"{frame:010d}.npz")
    return files


def timestamps(spec: WorldSpec) -> str:
    """Text of ``timestamps.txt``: one line per frame, with nanoseconds, as in KITTI."""
    start = datetime.strptime(spec.date, "%Y_%m_%d") + timedelta(hours=13, minutes=spec.drive % 60)
    lines = []
    for frame in range(spec.frames):
        moment = start + timedelta(seconds=frame / FRAMES_PER_SECOND)
        lines.append(f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond * 1000:09d}\n")
    return "".join(lines)


def _claim(path: Path, text: str, what: str) -> None:
    """Write a file, or check that an existing one has the same text."""
    if not path.exists():
        write_text(path, text)
    elif path.read_text() != text:
        raise UserError(
            f"{path}: another synthetic {what} is already here; "
            f"choose another {what} or an empty folder"
        )


def _identity(spec: WorldSpec) -> str:
    """Text that is equal for drives with equal files."""
    return json.dumps({"version": VERSION, "spec": spec.model_dump(mode="json")}, indent=1) + "\n"


def _png(image: U8) -> bytes:
    coded = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    done, data = cv2.imencode(".png", coded, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    assert done
    return data.tobytes()


def _npz(truth: Truth) -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        depth=truth.depth_HW,
        instance=truth.instance_HW,
        K=truth.K_33,
        T_world_cam=truth.T_world_cam,
        T_world_movers=truth.T_world_movers_M44,
    )
    return buffer.getvalue()
