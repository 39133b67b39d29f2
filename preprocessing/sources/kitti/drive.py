"""One drive of KITTI raw: its files and frames."""

import hashlib
import os
import re
from functools import cached_property
from pathlib import Path

import numpy as np

from ucn.arrays import Bools, Floats
from ucn.errors import SkippedPair, UserError
from ucn.geometry.rigid import invert_rigid
from ucn.preprocessing.sources.input_files import PHOTO_SUFFIXES
from ucn.preprocessing.sources.kitti.files import (
    Calibration,
    read_calibration,
    read_image,
    read_oxts,
    read_scan,
    read_tracklets,
)
from ucn.preprocessing.sources.kitti.sequence import LidarFrame, LidarSequence
from ucn.preprocessing.sources.kitti.tracklets import LabelledObjects

_DAY = re.compile(r"\d{4}_\d{2}_\d{2}")
_DRIVE = re.compile(r"\d{4}_\d{2}_\d{2}_drive_\d{4}_sync")


class Drive(LidarSequence):
    """A drive of KITTI raw, recorded by one camera and the Velodyne.

    Args:
        folder: ``DATE_drive_NNNN_sync``.
        camera: 0 to 3.

    Attributes:
        drive: ``DATE_drive_NNNN``.
    """

    digits = 10

    def __init__(self, folder: Path, camera: int) -> None:
        super().__init__()
        self.drive = folder.name.removesuffix("_sync")
        self.name = f"{self.drive}-image_{camera:02d}"
        self._folder = folder
        self._images = folder / f"image_{camera:02d}" / "data"
        self._scans = folder / "velodyne_points" / "data"
        self._oxts = folder / "oxts" / "data"
        self._camera = camera

    @cached_property
    def calibration(self) -> Calibration:
        return read_calibration(self._folder.parent, self._camera)

    @cached_property
    def frames(self) -> list[int]:
        # A damaged tracklet file affects every pair: it raises before the first pair is made.
        _ = self._labelled_objects
        return sorted(set().union(*self._sizes))

    @cached_property
    def digest(self) -> str:
        state = hashlib.sha256()
        day = self._folder.parent
        for path in (*sorted(day.glob("calib_*.txt")), self._folder / "tracklet_labels.xml"):
            state.update(path.read_bytes() if path.exists() else b"absent")
        state.update(repr(self._mercator_scale).encode())
        return state.hexdigest()

    def sizes(self, frame: int) -> list[int]:
        return [sizes.get(frame, -1) for sizes in self._sizes]

    def camera_pose(self, frame: int) -> Floats:
        T_world_imu, _ = read_oxts(self._oxts / f"{frame:010d}.txt", self._mercator_scale)
        return T_world_imu @ invert_rigid(self.calibration.T_cam_imu)

    def read_frame(self, frame: int) -> LidarFrame:
        image = read_image(self._images / f"{frame:010d}.png", self.calibration.size)
        scan_N4 = read_scan(self._scans / f"{frame:010d}.bin")
        return LidarFrame(image, self.view(scan_N4), self.camera_pose(frame))

    def on_dynamic_object(self, frame0: int, frame1: int) -> Bools:
        points_3N = self.read(frame0).view.points_3N
        if not self._labelled_objects.tracklets:
            return np.zeros(points_3N.shape[1], bool)
        T_velo_cam = invert_rigid(self.calibration.T_cam_velo)
        velo_3N = T_velo_cam[:3, :3] @ points_3N + T_velo_cam[:3, 3:]
        return self._labelled_objects.on_dynamic_object(velo_3N, frame0, frame1)

    @cached_property
    def _labelled_objects(self) -> LabelledObjects:
        tracklets = read_tracklets(self._folder / "tracklet_labels.xml")
        return LabelledObjects(tracklets, self._velo_pose)

    def _velo_pose(self, frame: int) -> Floats | None:
        T_world_cam = self.known_pose(frame)
        return None if T_world_cam is None else T_world_cam @ self.calibration.T_cam_velo

    @cached_property
    def _sizes(self) -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
        return (
            frame_files(self._images, PHOTO_SUFFIXES, self.digits),
            frame_files(self._scans, (".bin",), self.digits),
            frame_files(self._oxts, (".txt",), self.digits),
        )

    @cached_property
    def _mercator_scale(self) -> float | None:
        """Mercator scale of the drive's first undamaged oxts packet, as in the development kit."""
        for frame in sorted(self._sizes[2]):
            try:
                return read_oxts(self._oxts / f"{frame:010d}.txt")[1]
            except SkippedPair:
                continue
        return None


def find_drives(root: Path, camera: int, names: tuple[str, ...] = ()) -> list[Drive]:
    """Find drives, sorted by name.

    Args:
        root: folder of ``DATE/DATE_drive_NNNN_sync``.
        camera: 0 to 3.
        names: names such as ``0052`` or ``2011_09_26_drive_0052``; empty for all drives.

    Raises:
        UserError: the folder is missing or has no drives, or a named drive is missing.
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
    if names:
        folders = _chosen(root, folders, names)
    return [Drive(folder, camera) for folder in folders]


def _chosen(root: Path, folders: list[Path], names: tuple[str, ...]) -> list[Path]:
    chosen = set()
    for name in names:
        found = [
            folder
            for folder in folders
            if name.removesuffix("_sync")
            in (folder.name.removesuffix("_sync"), folder.name.split("_")[-2])
        ]
        if not found:
            there = ", ".join(folder.name.removesuffix("_sync") for folder in folders[:5])
            raise UserError(f"{root}: no drive {name}; there are {there}")
        chosen.update(found)
    return sorted(chosen)


def frame_files(folder: Path, suffixes: tuple[str, ...], digits: int) -> dict[int, int]:
    """Size in bytes of each file that is named by a frame number.

    Args:
        folder: folder of the files; it may be missing.
        suffixes: suffixes of the files, in any case; the first one that a frame has counts.
        digits: number of digits of the frame number.

    Returns:
        Frame number to size.
    """
    if not folder.is_dir():
        return {}
    sizes: dict[tuple[str, str], int] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            if len(stem) == digits and stem.isdecimal() and suffix.lower() in suffixes:
                sizes[stem, suffix.lower()] = entry.stat().st_size
    # Later entries replace earlier ones.
    order = sorted(sizes, key=lambda name: suffixes.index(name[1]), reverse=True)
    return {int(name[0]): sizes[name] for name in order}
