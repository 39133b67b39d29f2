"""Readers of KITTI raw's files: calibration, oxts, Velodyne scans, images, tracklets.

Layout and formats: the raw data development kit (readme.txt), Geiger et al., IJRR 2013.
"""

import xml.etree.ElementTree as ElementTree
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pykitti import utils as pykitti

from ucn.arrays import Array, Bools, Floats
from ucn.errors import SkippedPair, UserError
from ucn.images.read import read_photo
from ucn.preprocessing.sources.input_files import read_lines, read_words

_OXTS_FIELDS = 30
# Slope of the lowest ring of an HDL-64E: 24 degrees down, less a margin for the tilt of the car.
_LOWEST_RING = np.tan(np.deg2rad(-22.5))
_LAST_RINGS = 8192  # points, about four rings
_MAX_RANGE = 1e4  # metres, beyond that of any LiDAR


@dataclass(frozen=True)
class Calibration:
    """Calibration of one camera on one recording day.

    Attributes:
        K: 3x3 intrinsics of the rectified camera, pixels.
        size: (width, height) of the rectified images.
        T_cam_velo: 4x4, Velodyne frame to the rectified camera's frame, metres.
        T_cam_imu: 4x4, IMU frame to the rectified camera's frame, metres.
    """

    K: Floats
    size: tuple[int, int]
    T_cam_velo: Floats
    T_cam_imu: Floats


@dataclass(frozen=True)
class Tracklet:
    """One labelled object.

    Attributes:
        label: ``Car``, ``Pedestrian``, ...
        size: (height, width, length) in metres.
        first_frame: frame of the first pose.
        poses: float64 [F, 4], one row per frame: centre (x, y, z) of the box's bottom face in the
            Velodyne frame, metres, and yaw about the z axis, radians.
    """

    label: str
    size: tuple[float, float, float]
    first_frame: int
    poses: Floats


def read_calibration(day: Path, camera: int) -> Calibration:
    """Read the three calibration files of a day for one rectified camera.

    The offset of the camera is ``K^-1 P_rect[:, 3]``, with all three components. A shift along x
    alone would be wrong by a tenth of a pixel.

    Args:
        day: folder of the day, ``ROOT/DATE``.
        camera: 0 to 3.

    Raises:
        UserError: a file is missing or incomplete.
    """
    cameras = read_calibration_file(
        day / "calib_cam_to_cam.txt",
        {f"P_rect_{camera:02d}": 12, "R_rect_00": 9, f"S_rect_{camera:02d}": 2},
    )
    velo_to_cam = read_calibration_file(day / "calib_velo_to_cam.txt", {"R": 9, "T": 3})
    imu_to_velo = read_calibration_file(day / "calib_imu_to_velo.txt", {"R": 9, "T": 3})

    P_rect = cameras[f"P_rect_{camera:02d}"].reshape(3, 4)
    K = P_rect[:, :3]
    T_cam_rect0 = np.eye(4)
    T_cam_rect0[:3, 3] = np.linalg.solve(K, P_rect[:, 3])
    R_rect0 = np.eye(4)
    R_rect0[:3, :3] = cameras["R_rect_00"].reshape(3, 3)
    T_cam_velo = T_cam_rect0 @ R_rect0 @ _rigid(velo_to_cam)
    width, height = cameras[f"S_rect_{camera:02d}"]
    return Calibration(
        K=K,
        size=(int(width), int(height)),
        T_cam_velo=T_cam_velo,
        T_cam_imu=T_cam_velo @ _rigid(imu_to_velo),
    )


def read_calibration_file(path: Path, expected: dict[str, int]) -> dict[str, Floats]:
    """Read a calibration file.

    Args:
        path: the file.
        expected: required entries and their number of values.

    Returns:
        Name to values.

    Raises:
        UserError: the file is missing, or an entry does not have as many finite values as expected.
    """
    try:
        lines = read_lines(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: missing calibration; download KITTI's calibration of that day"
        ) from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not a calibration file ({error}); download it again") from error
    entries: dict[str, Floats] = {}
    for line in lines:
        name, _, values = line.partition(":")
        # Some entries, such as the date, are not numbers.
        with suppress(ValueError):
            entries[name] = np.array(values.split(), np.float64)
    for name, count in expected.items():
        found = entries.get(name, np.zeros(0))
        if found.shape != (count,) or not np.isfinite(found).all():
            raise UserError(f"{path}: no {name} with {count} numbers; download it again")
    return entries


def read_oxts(path: Path, scale: float | None = None) -> tuple[Floats, float]:
    """Read one oxts file.

    Args:
        path: ``oxts/data/0000000000.txt``.
        scale: Mercator scale of the drive. None computes it from this packet, which is right for
            the first packet of a drive.

    Returns:
        ``T_world_imu`` (4x4, metres, world axes east, north, up) and the Mercator scale.

    Raises:
        SkippedPair: the file is missing, damaged, or not finite.
    """
    try:
        values = [float(value) for value in read_words(path)]
    except FileNotFoundError:
        raise SkippedPair("missing oxts", path.name) from None
    except ValueError:
        raise SkippedPair("damaged oxts", f"{path.name}: not numbers") from None
    except OSError as error:
        raise SkippedPair("damaged oxts", f"{path.name}: {error.strerror}") from None
    if len(values) != _OXTS_FIELDS:
        raise SkippedPair("damaged oxts", f"{path.name}: {len(values)} of {_OXTS_FIELDS} values")
    if not np.isfinite(values[:6]).all() or abs(values[0]) >= 90:
        raise SkippedPair("damaged oxts", f"{path.name}: no finite position and attitude")
    packet = pykitti.OxtsPacket(*values)
    if scale is None:
        scale = float(np.cos(np.deg2rad(packet.lat)))
    R, t = pykitti.pose_from_oxts_packet(packet, scale)
    return pykitti.transform_from_rot_trans(R, t), scale


def read_scan(path: Path) -> tuple[NDArray[np.float32], Bools]:
    """Read the returns of a Velodyne scan.

    Rows that are not finite, at the origin or out of range are not returns: some drivers write a
    row for each beam.

    Returns:
        float32 [R, 4], x, y, z in metres, reflectance in [0, 1]; and a mask [N] of the rows of the
        file that are returns.

    Raises:
        SkippedPair: the file is missing, truncated or empty.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SkippedPair("missing scan", path.name) from None
    except OSError as error:
        raise SkippedPair("unreadable scan", f"{path.name}: {error.strerror}") from None
    if len(data) % 16 or not data:
        raise SkippedPair("truncated scan", f"{path.name}: {len(data)} bytes, not a multiple of 16")
    scan_N4 = np.frombuffer(data, np.float32).reshape(-1, 4)
    with np.errstate(over="ignore", invalid="ignore"):
        distance_N = np.einsum("ij,ij->i", scan_N4[:, :3], scan_N4[:, :3])
    # Comparisons with NaN are false.
    returned_N = (distance_N > 0) & (distance_N < _MAX_RANGE**2)
    scan_R4 = scan_N4.compress(returned_N, axis=0)
    scan_R4[~np.isfinite(scan_R4[:, 3]), 3] = 0
    # Rings are stored from top to bottom. The lowest one hits the road about four metres away.
    x_N, y_N, z_N, _ = scan_R4[-_LAST_RINGS:].T
    if not (z_N < _LOWEST_RING * np.hypot(x_N, y_N)).any():
        raise SkippedPair("truncated scan", f"{path.name}: its lower rings are missing")
    return scan_R4, returned_N


def read_image(path: Path, size: tuple[int, int] | None = None) -> Array:
    """Read an 8-bit image: uint8 [H, W] grey or [H, W, 3] RGB.

    Args:
        path: the file.
        size: expected (width, height); None accepts any size.

    Raises:
        SkippedPair: the image is missing, truncated, damaged, or of another size.
    """
    image = read_photo(path, path.parent)
    if size is not None and image.shape[1::-1] != size:
        found = "x".join(map(str, image.shape[1::-1]))
        raise SkippedPair("image size differs", f"{path.name}: {found}, calibrated for {size}")
    return image


def read_tracklets(path: Path) -> list[Tracklet]:
    """Read ``tracklet_labels.xml``. A missing file gives an empty list.

    Raises:
        UserError: not a tracklet file.
    """
    if not path.exists():
        return []
    try:
        root = ElementTree.fromstring(path.read_bytes())
        return [_tracklet(item) for item in root.findall("tracklets/item")]
    except (ElementTree.ParseError, ValueError, TypeError, OSError) as error:
        raise UserError(
            f"{path}: not a KITTI tracklet file ({error}); restore it, or remove it to go without"
        ) from error


def _tracklet(item: ElementTree.Element) -> Tracklet:
    def number(element: ElementTree.Element, name: str) -> float:
        text = element.findtext(name)
        if text is None:
            raise ValueError(f"<{name}> is missing")
        return float(text)

    poses = [
        [number(pose, name) for name in ("tx", "ty", "tz", "rz")]
        for pose in item.findall("poses/item")
    ]
    return Tracklet(
        label=item.findtext("objectType", ""),
        size=(number(item, "h"), number(item, "w"), number(item, "l")),
        first_frame=int(number(item, "first_frame")),
        poses=np.array(poses, np.float64).reshape(-1, 4),
    )


def _rigid(entries: dict[str, Floats]) -> Floats:
    T: Floats = pykitti.transform_from_rot_trans(entries["R"], entries["T"])
    return T
