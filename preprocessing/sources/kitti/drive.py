"""One drive of KITTI raw: its files and frames."""

import hashlib
import re
from functools import cached_property
from pathlib import Path

from ucn.arrays import Floats
from ucn.errors import SkippedPair, UserError
from ucn.geometry.rigid import invert_rigid
from ucn.preprocessing.sources.input_files import PHOTO_SUFFIXES
from ucn.preprocessing.sources.kitti.files import (
    Calibration,
    read_calibration,
    read_oxts,
    read_tracklets,
)
from ucn.preprocessing.sources.kitti.sequence import FrameFiles, LidarSequence
from ucn.preprocessing.sources.kitti.tracklets import LabelledObject, labelled_objects

_DAY = re.compile(r"\d{4}_\d{2}_\d{2}")
_DRIVE = re.compile(r"\d{4}_\d{2}_\d{2}_drive_\d{4}_(sync|extract)")
_TRACKLETS = "tracklet_labels.xml"


class Drive(LidarSequence):
    """A drive of KITTI raw, recorded by one camera and the Velodyne.

    Args:
        folder: ``DATE_drive_NNNN_sync``.
        camera: 0 to 3.
    """

    digits = 10

    def __init__(self, folder: Path, camera: int) -> None:
        super().__init__()
        self.name = f"{drive_name(folder)}-image_{camera:02d}"
        self.images = self._files(folder / f"image_{camera:02d}", PHOTO_SUFFIXES)
        self.scans = self._files(folder / "velodyne_points", (".bin",))
        self.others = self._files(folder / "oxts", (".txt",))
        self._folder = folder
        self._camera = camera

    @cached_property
    def calibration(self) -> Calibration:
        return read_calibration(self._folder.parent, self._camera)

    @cached_property
    def digest(self) -> str:
        state = hashlib.sha256()
        day = self._folder.parent
        for path in (*sorted(day.glob("calib_*.txt")), self._folder / _TRACKLETS):
            state.update(path.read_bytes() if path.exists() else b"absent")
        state.update(repr(self._mercator_scale).encode())
        return state.hexdigest()

    @cached_property
    def objects(self) -> tuple[LabelledObject, ...]:
        tracklets = read_tracklets(self._folder / _TRACKLETS)
        return labelled_objects(tracklets, self._velo_pose)

    def camera_pose(self, frame: int) -> Floats:
        T_world_imu, _ = read_oxts(self.others.path(frame), self._mercator_scale)
        return T_world_imu @ invert_rigid(self.calibration.T_cam_imu)

    def _files(self, folder: Path, suffixes: tuple[str, ...]) -> FrameFiles:
        return FrameFiles(folder / "data", suffixes, self.digits)

    def _velo_pose(self, frame: int) -> Floats | None:
        pose = self.pose(frame)
        return None if isinstance(pose, SkippedPair) else pose @ self.calibration.T_cam_velo

    @cached_property
    def _mercator_scale(self) -> float | None:
        """Mercator scale of the drive's first undamaged oxts packet, as in the development kit."""
        for _, file in sorted(self.others.by_frame.items()):
            try:
                return read_oxts(file.path)[1]
            except SkippedPair:
                continue
        return None


def find_drives(root: Path, names: tuple[str, ...] = ()) -> list[Path]:
    """Find the folders of drives, sorted by name.

    Args:
        root: folder of ``DATE/DATE_drive_NNNN_sync``.
        names: names such as ``0052`` or ``2011_09_26_drive_0052``; empty for all drives.

    Raises:
        UserError: the folder is missing or has no synced drives, or a named drive is missing.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; pass the folder that holds KITTI's days")
    folders = sorted(
        path
        for day in root.iterdir()
        if _DAY.fullmatch(day.name)
        for path in day.iterdir()
        if _DRIVE.fullmatch(path.name)
    )
    if not folders:
        inside = _DAY.fullmatch(root.name) or _DRIVE.fullmatch(root.name)
        raise UserError(
            f"{root}: holds no DATE/DATE_drive_NNNN_sync; "
            + ("pass the folder above the day" if inside else "is it KITTI raw, synced?")
        )
    return sorted({path for name in names or ("",) for path in _synced(root, folders, name)})


def _synced(root: Path, folders: list[Path], name: str) -> list[Path]:
    """The synced ones of the drives with a name or number; of all for an empty name."""
    drive = name.removesuffix("_sync").removesuffix("_extract")
    found = [path for path in folders if drive in ("", drive_name(path), path.name.split("_")[-2])]
    if not found:
        raise UserError(
            f"{root}: no drive {name}; there are {', '.join(map(drive_name, folders[:5]))}"
        )
    synced = [path for path in found if path.name.endswith("_sync")]
    if not synced:
        raise UserError(
            f"{found[0]}: is unsynced: its images are not rectified, and its scans and poses have "
            "other times; download the synced+rectified data of the drive"
        )
    return synced


def drive_name(folder: Path) -> str:
    """``DATE_drive_NNNN`` of the folder of a drive."""
    return folder.name.rpartition("_")[0]
