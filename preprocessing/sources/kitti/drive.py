"""One drive of KITTI raw: its files and frames."""

import hashlib
import re
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ucn.arrays import Floats
from ucn.errors import SkippedPair, UserError
from ucn.geometry.rigid import invert_rigid
from ucn.preprocessing.sources.archive import ArchivePath, is_archive, open_root
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
_ARCHIVE = re.compile(r"\d{4}_\d{2}_\d{2}.*\.zip", re.IGNORECASE)
_TRACKLETS = "tracklet_labels.xml"
_CALIBRATION = "calib_cam_to_cam.txt"


class DriveFiles(NamedTuple):
    """Where a drive lies.

    Attributes:
        folder: name of its folder, ``DATE_drive_NNNN_sync``.
        days: folders ``DATE``, unpacked or in archives, that hold parts of it.
    """

    folder: str
    days: tuple[Path, ...]

    @property
    def name(self) -> str:
        """``DATE_drive_NNNN``."""
        return self.folder.removesuffix("_sync")

    def find(self, part: str) -> Path:
        """A file or folder of the drive, from the first day that has it."""
        return self._first(f"{self.folder}/{part}")

    def calibrated_day(self) -> Path:
        """The first day that holds a calibration."""
        return self._first(_CALIBRATION).parent

    def _first(self, name: str) -> Path:
        paths = [day / name for day in self.days]
        return next((path for path in paths if path.exists()), paths[0])


class Drive(LidarSequence):
    """A drive of KITTI raw, recorded by one camera and the Velodyne.

    Args:
        files: the drive.
        camera: 0 to 3.
    """

    digits = 10

    def __init__(self, files: DriveFiles, camera: int) -> None:
        super().__init__()
        self.name = f"{files.name}-image_{camera:02d}"
        self.images = self._frames(files.find(f"image_{camera:02d}/data"), PHOTO_SUFFIXES)
        self.scans = self._frames(files.find("velodyne_points/data"), (".bin",))
        self.others = self._frames(files.find("oxts/data"), (".txt",))
        self._day = files.calibrated_day()
        self._tracklets = files.find(_TRACKLETS)
        self._camera = camera

    @cached_property
    def calibration(self) -> Calibration:
        return read_calibration(self._day, self._camera)

    @cached_property
    def digest(self) -> str:
        state = hashlib.sha256()
        calibrations = [path for path in self._day.iterdir() if path.match("calib_*.txt")]
        for path in (*sorted(calibrations), self._tracklets):
            state.update(path.read_bytes() if path.exists() else b"absent")
        state.update(repr(self._mercator_scale).encode())
        return state.hexdigest()

    @cached_property
    def objects(self) -> tuple[LabelledObject, ...]:
        tracklets = read_tracklets(self._tracklets)
        return labelled_objects(tracklets, self._velo_pose)

    def camera_pose(self, frame: int) -> Floats:
        T_world_imu, _ = read_oxts(self.others.path(frame), self._mercator_scale)
        return T_world_imu @ invert_rigid(self.calibration.T_cam_imu)

    def _frames(self, folder: Path, suffixes: tuple[str, ...]) -> FrameFiles:
        return FrameFiles(folder, suffixes, self.digits)

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


def find_drives(root: Path, names: tuple[str, ...] = ()) -> list[DriveFiles]:
    """Find drives, sorted by name.

    Args:
        root: folder of ``DATE/DATE_drive_NNNN_sync``, or of KITTI's zip archives, which may also
            lie in the folders of the days. What is unpacked counts before what is in an archive.
        names: names such as ``0052`` or ``2011_09_26_drive_0052``; empty for all drives.

    Raises:
        UserError: the folder is missing or has no synced drives, a named drive is missing, or an
            archive is damaged.
    """
    root = open_root(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; pass the folder that holds KITTI's days")
    days: dict[str, list[Path]] = defaultdict(list)
    calibrated, found = [], []
    # Archive by archive: opening one reads the list of its members.
    for place in (root, *_archives(root)):
        for day in _days(place):
            if (day / _CALIBRATION).is_file():
                calibrated.append(day)
            for path in day.iterdir():
                if _DRIVE.fullmatch(path.name):
                    days[path.name].append(day)
                    if _has_sensors(path):
                        found.append(path)
    if not found:
        inside = _DAY.fullmatch(root.name) or _DRIVE.fullmatch(root.name)
        raise UserError(
            f"{root}: holds no DATE/DATE_drive_NNNN_sync; "
            + ("pass the folder above the day" if inside else "is it KITTI raw, synced?")
        )
    chosen = {path.name for name in names or ("",) for path in _synced(root, found, name)}
    return [
        DriveFiles(name, (*days[name], *(day for day in calibrated if name.startswith(day.name))))
        for name in sorted(chosen)
    ]


def _days(place: Path) -> list[Path]:
    return [day for day in place.iterdir() if _DAY.fullmatch(day.name) and day.is_dir()]


def _archives(root: Path) -> list[Path]:
    """KITTI's archives in a root and in its days, without those of drives that are unpacked."""
    return [
        ArchivePath(path)
        for folder in (root, *_days(root))
        for path in sorted(folder.iterdir())
        if _ARCHIVE.fullmatch(path.name) and is_archive(path)
        if not _has_sensors(root / path.name[:10] / path.stem)
    ]


def _has_sensors(folder: Path) -> bool:
    """Whether a folder holds a drive. Tracklets, which are an archive of their own, make none."""
    return folder.is_dir() and any(path.name != _TRACKLETS for path in folder.iterdir())


def _synced(root: Path, folders: list[Path], name: str) -> list[Path]:
    """The synced drives with a name or number; all of them for an empty name."""
    drive = name.removesuffix("_sync").removesuffix("_extract")
    found = [
        path
        for path in folders
        if drive in ("", path.name.rpartition("_")[0], path.name.split("_")[-2])
    ]
    if not found:
        there = sorted({path.name.rpartition("_")[0] for path in folders})[:5]
        raise UserError(f"{root}: no drive {name}; there are {', '.join(there)}")
    synced = [path for path in found if path.name.endswith("_sync")]
    if not synced:
        raise UserError(
            f"{found[0]}: is unsynced: its images are not rectified, and its scans and poses have "
            "other times; download the synced+rectified data of the drive"
        )
    return synced
