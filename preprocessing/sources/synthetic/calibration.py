"""Calibration of a KITTI-like sensor rig, and its files in KITTI's text format."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.materials.textures import F64

KITTI_WIDTH = 1242
FOCAL_LENGTH, CENTRE_X, CENTRE_Y = 721.5, 609.6, 172.9
"""Intrinsics of KITTI's rectified cameras at 1242 x 375, pixels."""
KITTI_HEIGHT = 375
BASELINES = (0.0, -0.537, 0.0597, -0.4731)
"""x component of the translation from camera 0 to each camera, metres."""


@dataclass(frozen=True)
class Rig:
    """Calibration of the sensors.

    ``T_a_b`` maps points in frame b to frame a. ``P_rect`` has a [3, 4] matrix for each camera.
    """

    T_velo_imu: F64
    T_cam0_velo: F64
    R_rect_00: F64
    P_rect: tuple[F64, F64, F64, F64]

    def intrinsics(self, camera: int) -> F64:
        """K [3, 3] of a rectified camera."""
        return self.P_rect[camera][:, :3]

    def T_cam_velo(self, camera: int) -> F64:
        """Velodyne to rectified camera. Uses all three components of ``P_rect``'s last column."""
        rectified = np.eye(4)
        rectified[:3, :3] = self.R_rect_00
        shift = np.eye(4)
        shift[:3, 3] = np.linalg.solve(self.intrinsics(camera), self.P_rect[camera][:, 3])
        transform: F64 = shift @ rectified @ self.T_cam0_velo
        return transform


def make_rig(spec: WorldSpec) -> Rig:
    """Make the rig of ``spec.date``, with intrinsics for ``spec.width``.

    Each date gives a different calibration.
    """
    rng = np.random.default_rng([crc32(spec.date.encode()), 17])
    scale = spec.width / KITTI_WIDTH
    focal = FOCAL_LENGTH * (1 + rng.uniform(-0.015, 0.015)) * scale
    centre_x = (CENTRE_X + rng.uniform(-8, 8) + 0.5) * scale - 0.5
    full_height = KITTI_HEIGHT * scale
    centre_y = (CENTRE_Y + rng.uniform(-4, 4) + 0.5) * scale - 0.5 + (spec.height - full_height) / 2
    intrinsics = np.array([[focal, 0, centre_x], [0, focal, centre_y], [0, 0, 1]])
    projections = []
    for camera, baseline in enumerate(BASELINES):
        shift = np.array([baseline, *rng.normal(0, 0.002, 2)]) if camera else np.zeros(3)
        if camera >= 2:
            shift[1:] += 0.001, 0.0027
        projections.append(
            _rounded(np.concatenate([intrinsics, (intrinsics @ shift)[:, None]], axis=1))
        )
    axes = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    velo_to_cam = _rigid(
        _small_rotation(rng, 0.012) @ axes, np.array([-0.004, -0.076, -0.272]), rng
    )
    imu_to_velo = _rigid(_small_rotation(rng, 0.009), np.array([-0.81, 0.32, -0.80]), rng)
    return Rig(
        imu_to_velo,
        velo_to_cam,
        _rounded(_small_rotation(rng, 0.008)),
        (projections[0], projections[1], projections[2], projections[3]),
    )


def cam_to_cam_text(rig: Rig, spec: WorldSpec) -> str:
    """Text of ``calib_cam_to_cam.txt``. The unrectified cameras are ideal pinhole cameras."""
    lines = ["calib_time: 09-Jan-2012 13:57:47", "corner_dist: 9.950000e-02"]
    size = [float(spec.width), float(spec.height)]
    for camera, projection in enumerate(rig.P_rect):
        shift = np.linalg.solve(rig.intrinsics(camera), projection[:, 3])
        entries: dict[str, F64 | list[float]] = {
            "S": size,
            "K": rig.intrinsics(camera),
            "D": np.zeros(5),
            "R": np.eye(3),
            "T": rig.R_rect_00.T @ shift,
            "S_rect": size,
            "R_rect": rig.R_rect_00,
            "P_rect": projection,
        }
        lines += [f"{name}_{camera:02d}: {_numbers(value)}" for name, value in entries.items()]
    return "\n".join(lines) + "\n"


def rigid_text(transform_44: F64) -> str:
    """Text of ``calib_velo_to_cam.txt`` or ``calib_imu_to_velo.txt``."""
    return (
        "calib_time: 25-May-2012 16:47:16\n"
        f"R: {_numbers(transform_44[:3, :3])}\nT: {_numbers(transform_44[:3, 3])}\n"
    )


def _numbers(values: F64 | list[float]) -> str:
    return " ".join(f"{value:.12e}" for value in np.ravel(values))


def _rounded(values: F64) -> F64:
    """Values after a round trip through the text, so that the files hold the exact calibration."""
    return np.array([float(f"{value:.12e}") for value in values.ravel()]).reshape(values.shape)


def _rigid(rotation_33: F64, shift_3: F64, rng: np.random.Generator) -> F64:
    transform = np.eye(4)
    transform[:3, :3] = rotation_33
    transform[:3, 3] = shift_3 + rng.normal(0, 0.004, 3)
    return _rounded(transform)


def _small_rotation(rng: np.random.Generator, radians: float) -> F64:
    """Random rotation with standard deviation ``radians`` about each axis (Rodrigues)."""
    vector = rng.normal(0, radians, 3)
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: F64 = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return rotation
