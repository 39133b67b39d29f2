"""One drive of KITTI raw: which files it has, and its frames, each read once while in use."""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from preprocessing.errors import SkippedPair, UserError
from preprocessing.geometry import Floats, invert_rigid
from preprocessing.lidar_pairs import CameraScan, view_scan
from preprocessing.sample import Array
from preprocessing.sources.kitti_files import (
    Calibration,
    read_calibration,
    read_image,
    read_oxts,
    read_scan,
    read_tracklets,
)
from preprocessing.sources.kitti_movers import LabelledMovers

_DAY = re.compile(r"\d{4}_\d{2}_\d{2}")
_DRIVE = re.compile(r"\d{4}_\d{2}_\d{2}_drive_\d{4}_sync")
_FRAME = re.compile(r"\d{10}")
# Pairs come ordered by their first frame: this many frames back a gap may reach without rereading.
_CACHED_FRAMES = 32


@dataclass(frozen=True)
class Frame:
    """One instant of a drive.

    Attributes:
        image: uint8 [H, W] or RGB [H, W, 3].
        points_velo_N3: the scan in the Velodyne frame, metres.
        view: the part of the scan inside the image.
        T_world_velo: pose of the Velodyne.
    """

    image: Array
    points_velo_N3: Floats
    view: CameraScan
    T_world_velo: Floats


class Drive:
    """A drive as one of its cameras has it.

    Args:
        folder: ``DATE_drive_NNNN_sync``.
        camera: 0 to 3.
    """

    def __init__(self, folder: Path, camera: int) -> None:
        self.sequence = folder.name.removesuffix("_sync")
        self._folder = folder
        self._images = folder / f"image_{camera:02d}" / "data"
        self._scans = folder / "velodyne_points" / "data"
        self._oxts = folder / "oxts" / "data"
        self._camera = camera
        self._frame = lru_cache(_CACHED_FRAMES)(self._read)

    @cached_property
    def calibration(self) -> Calibration:
        """Of the day of this drive."""
        return read_calibration(self._folder.parent, self._camera)

    @cached_property
    def frames(self) -> list[int]:
        """Numbers of the frames of which any sensor has a file, ascending."""
        return sorted(set().union(*self._sizes))

    @cached_property
    def movers(self) -> LabelledMovers:
        """Labelled objects of the drive.

        Raises:
            UserError: the tracklet file is damaged.
        """
        tracklets = read_tracklets(self._folder / "tracklet_labels.xml")
        return LabelledMovers(tracklets, self._known_pose)

    @cached_property
    def digest(self) -> str:
        """Of the small files that bear on every pair of the drive."""
        state = hashlib.sha256()
        day = self._folder.parent
        for path in (*sorted(day.glob("calib_*.txt")), self._folder / "tracklet_labels.xml"):
            state.update(path.read_bytes() if path.exists() else b"absent")
        state.update(repr(self._mercator_scale).encode())
        return state.hexdigest()

    def sizes(self, frame: int) -> list[int]:
        """Bytes of the frame's image, scan and oxts files; -1 for a missing one."""
        return [sizes.get(frame, -1) for sizes in self._sizes]

    def read(self, frame: int) -> Frame:
        """Read a frame, or take it from the last ones read.

        Raises:
            SkippedPair: a file is missing or damaged.
        """
        return self._frame(frame)

    def _read(self, frame: int) -> Frame:
        calibration = self.calibration
        image = read_image(self._images / f"{frame:010d}.png", calibration.size)
        scan_N4 = read_scan(self._scans / f"{frame:010d}.bin")
        points_velo_N3 = scan_N4[:, :3].astype(np.float64)
        return Frame(
            image=image,
            points_velo_N3=points_velo_N3,
            view=view_scan(points_velo_N3, calibration.T_cam_velo, calibration.K, calibration.size),
            T_world_velo=self._pose(frame),
        )

    def _pose(self, frame: int) -> Floats:
        T_world_imu, _ = read_oxts(self._oxts / f"{frame:010d}.txt", self._mercator_scale)
        calibration = self.calibration
        return T_world_imu @ invert_rigid(calibration.T_cam_imu) @ calibration.T_cam_velo

    def _known_pose(self, frame: int) -> Floats | None:
        try:
            return self._pose(frame)
        except SkippedPair:
            return None

    @cached_property
    def _sizes(self) -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
        return (
            _frame_files(self._images, ".png"),
            _frame_files(self._scans, ".bin"),
            _frame_files(self._oxts, ".txt"),
        )

    @cached_property
    def _mercator_scale(self) -> float | None:
        """That of the drive's first sound oxts packet, as the development kit takes it."""
        for frame in sorted(self._sizes[2]):
            try:
                return read_oxts(self._oxts / f"{frame:010d}.txt")[1]
            except SkippedPair:
                continue
        return None


def find_drives(root: Path, camera: int, names: tuple[str, ...] = ()) -> list[Drive]:
    """Drives under a root that holds the days, in order of their names.

    Args:
        root: folder of ``DATE/DATE_drive_NNNN_sync``.
        camera: 0 to 3.
        names: ``0052`` or ``2011_09_26_drive_0052``; empty for all.

    Raises:
        UserError: no such folder, no drives in it, or not the drives that are asked for.
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


def _frame_files(folder: Path, suffix: str) -> dict[int, int]:
    """Sizes of the files that are named by a frame number."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {
            int(entry.name[: -len(suffix)]): entry.stat().st_size
            for entry in entries
            if entry.name.endswith(suffix) and _FRAME.fullmatch(entry.name[: -len(suffix)])
        }
