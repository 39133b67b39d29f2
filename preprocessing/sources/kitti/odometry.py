"""KITTI odometry: the sensors of KITTI raw, with poses of the left camera instead of oxts.

Layout: ``ROOT/sequences/NN/{image_C, velodyne, calib.txt}`` and ``ROOT/poses/NN.txt`` (Geiger et
al., CVPR 2012). SemanticKITTI adds ``ROOT/sequences/NN/labels`` (Behley et al., ICCV 2019).
"""

import hashlib
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Floats
from ucn.errors import SkippedPair, UserError
from ucn.geometry.rigid import invert_rigid
from ucn.preprocessing.sources.base import Source
from ucn.preprocessing.sources.input_files import PHOTO_SUFFIXES, read_lines
from ucn.preprocessing.sources.kitti.files import (
    Calibration,
    read_calibration_file,
    read_image,
)
from ucn.preprocessing.sources.kitti.lidar import LidarConfig, open_lidar
from ucn.preprocessing.sources.kitti.sequence import FrameFiles, LidarSequence

# Sequences 00 to 10 have poses. The validation sequence is SemanticKITTI's. The test sequences are
# those of most papers on learned odometry.
_SPLITS = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07"),
    "val": ("08",),
    "test": ("09", "10"),
}


class KittiOdometryConfig(LidarConfig):
    """KITTI odometry: Velodyne points projected into successive frames, poses from poses/NN.txt.

    --root is the folder that holds `sequences` and `poses`.
    """

    source: Literal["kitti-odometry"] = "kitti-odometry"
    sequences: tuple[str, ...] = ()
    """Sequences such as 00 08; default by --split: train 00-07, val 08, test 09-10."""

    def open_source(self) -> Source:
        root = Path(self.root)
        wanted = self.sequences or _SPLITS.get(self.split)
        if wanted is None:
            raise UserError(
                f"--split {self.split}: the lists have train, val and test; name one, "
                "or name --sequences"
            )
        if not (root / "sequences").is_dir():
            raise UserError(
                f"{root}: holds no folder `sequences`; pass the folder above sequences and poses"
            )
        there = [name for name in wanted if (root / "sequences" / name).is_dir()]
        missing = [name for name in wanted if name not in there]
        if not there or (self.sequences and missing):
            raise UserError(f"{root}/sequences: lacks {', '.join(missing)}; unpack it there")
        return open_lidar(self, [partial(OdometrySequence, root, name) for name in there])


class OdometrySequence(LidarSequence):
    """A sequence of KITTI odometry, recorded by one camera and the Velodyne.

    Args:
        root: folder of ``sequences`` and ``poses``.
        number: number of the sequence, such as ``00``.
        camera: 0 to 3.
    """

    digits = 6

    def __init__(self, root: Path, number: str, camera: int) -> None:
        super().__init__()
        self.name = f"{number}-image_{camera}"
        self._camera = camera
        self._poses_file = root / "poses" / f"{number}.txt"
        self._folder = root / "sequences" / number
        self.images = FrameFiles(self._folder / f"image_{camera}", PHOTO_SUFFIXES, self.digits)
        self.scans = FrameFiles(self._folder / "velodyne", (".bin",), self.digits)
        self.others = FrameFiles(self._folder / "labels", (".label",), self.digits)

    @cached_property
    def calibration(self) -> Calibration:
        """From ``calib.txt``: ``P0`` to ``P3``, and ``Tr``, Velodyne to camera 0.

        The file does not give the size of the images. It is the size of the first image.
        """
        name = f"P{self._camera}"
        path = self._folder / "calib.txt"
        entries = read_calibration_file(path, {name: 12})
        if "Tr" not in entries:
            raise UserError(
                f"{path}: has no Tr (Velodyne to camera), as in the archives of images; unpack "
                "data_odometry_calib.zip over it. Pairs without scans are not possible: poses "
                "alone give no depth, so no matches"
            )
        entries = read_calibration_file(path, {name: 12, "Tr": 12})
        P = entries[name].reshape(3, 4)
        T_cam_cam0 = np.eye(4)
        T_cam_cam0[:3, 3] = np.linalg.solve(P[:, :3], P[:, 3])
        T_cam0_velo = np.vstack([entries["Tr"].reshape(3, 4), [0, 0, 0, 1]])
        # Camera 0 takes the place of the IMU, because the poses are those of camera 0.
        return Calibration(P[:, :3], self._image_size(), T_cam_cam0 @ T_cam0_velo, T_cam_cam0)

    @cached_property
    def digest(self) -> str:
        state = hashlib.sha256()
        for path in (self._folder / "calib.txt", self._poses_file):
            state.update(path.read_bytes() if path.exists() else b"absent")
        return state.hexdigest()

    def camera_pose(self, frame: int) -> Floats:
        poses_F34 = self._poses_F34
        if frame >= len(poses_F34) or not np.isfinite(poses_F34[frame]).all():
            raise SkippedPair("missing pose", f"{self._poses_file.name}: line {frame + 1}")
        T_world_cam0 = np.vstack([poses_F34[frame], [0, 0, 0, 1]])
        return np.asarray(T_world_cam0 @ invert_rigid(self.calibration.T_cam_imu))

    def labels(self, frame: int) -> Path | None:
        file = self.others.by_frame.get(frame)
        return file and file.path

    def _image_size(self) -> tuple[int, int]:
        for _, file in sorted(self.images.by_frame.items()):
            try:
                image = read_image(file.path)
            except SkippedPair:
                continue
            return image.shape[1], image.shape[0]
        raise UserError(f"{self.images.folder}: holds no image; download those of this camera")

    @cached_property
    def _poses_F34(self) -> NDArray[np.float64]:
        try:
            lines = read_lines(self._poses_file)
        except FileNotFoundError:
            raise UserError(
                f"{self._poses_file}: missing poses; KITTI has them for 00 to 10"
            ) from None
        except ValueError:
            raise UserError(f"{self._poses_file}: not a text file; download it again") from None
        poses = []
        for number, line in enumerate(lines, 1):
            # The development kit's reader skips blank lines, too.
            if not line.strip():
                continue
            try:
                poses.append(np.array(line.split(), np.float64).reshape(3, 4))
            except ValueError:
                raise UserError(
                    f"{self._poses_file}: line {number} is not 12 numbers; download it again"
                ) from None
        return np.array(poses).reshape(-1, 3, 4)
