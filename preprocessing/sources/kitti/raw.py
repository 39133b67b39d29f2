"""KITTI raw: Velodyne points projected into two frames of one rectified camera.

Layout: ``ROOT/DATE/DATE_drive_NNNN_sync/{image_0C,velodyne_points,oxts}/data``, with three
calibration files in ``ROOT/DATE`` (Geiger et al., "Vision meets Robotics", IJRR 2013).
"""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Literal

from ucn.errors import UserError, counted
from ucn.preprocessing.sources.base import Source
from ucn.preprocessing.sources.kitti.drive import Drive, DriveFiles, find_drives
from ucn.preprocessing.sources.kitti.drive_lists import split_of_drive
from ucn.preprocessing.sources.kitti.lidar import LidarConfig, open_lidar


class KittiRawConfig(LidarConfig):
    """KITTI raw data, synced and rectified: Velodyne points projected into successive frames.

    --root is the folder that holds KITTI's days, DATE/DATE_drive_NNNN_sync, or its zip archives.
    """

    source: Literal["kitti-raw"] = "kitti-raw"
    drives: tuple[str, ...] = ()
    """Drives such as 0052 or 2011_09_26_drive_0052; default all."""
    lists: Literal["all", "eigen"] = "all"
    """`all` takes every drive. `eigen` takes the drives of --split: test is the Eigen test split,
    val the validation drives of the depth benchmark, train the others."""

    def open_source(self) -> Source:
        drives = _listed(self, find_drives(Path(self.root), self.drives))
        return open_lidar(self, [partial(Drive, drive) for drive in drives])


def _listed(config: KittiRawConfig, drives: list[DriveFiles]) -> list[DriveFiles]:
    if config.lists == "all":
        return drives
    if config.split not in ("train", "val", "test"):
        raise UserError(f"--split {config.split}: the lists have train, val and test; name one")
    listed = [drive for drive in drives if split_of_drive(drive.name) == config.split]
    if not listed:
        splits = Counter(split_of_drive(drive.name) for drive in drives)
        found = ", ".join(f"{counted(splits[name], 'drive')} of {name}" for name in sorted(splits))
        raise UserError(
            f"{config.root}: holds no drive of the {config.split} list, but {found}; choose "
            "another --split, or take all with --lists all"
        )
    return listed
