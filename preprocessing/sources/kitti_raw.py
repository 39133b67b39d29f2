"""KITTI raw: Velodyne points projected into two frames of one rectified camera.

Layout: ``ROOT/DATE/DATE_drive_NNNN_sync/{image_0C,velodyne_points,oxts}/data`` and the three
calibration files in ``ROOT/DATE`` (Geiger et al., "Vision meets Robotics", IJRR 2013).
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from preprocessing.config import PreprocessConfig
from preprocessing.errors import UserError
from preprocessing.geometry import Floats, invert_rigid
from preprocessing.lidar_pairs import LidarMatches, match_scans
from preprocessing.sample import Sample
from preprocessing.sources.assemble import Candidates, PairGeometry, assemble_sample
from preprocessing.sources.base import PairRef, Source
from preprocessing.sources.kitti_drive import Drive, Frame, find_drives
from preprocessing.sources.kitti_files import Calibration
from preprocessing.visibility import lidar_window

# Height of the cameras above the road (sensor setup, IJRR 2013), metres.
_CAMERA_HEIGHT = 1.65


_Positive = Annotated[int, Field(ge=1)]


class DriveConfig(PreprocessConfig):
    """Options of drives in KITTI raw's layout."""

    root: str
    """Folder that holds KITTI's days, `DATE/DATE_drive_NNNN_sync`."""
    camera: Literal[0, 1, 2, 3] = 2
    """Camera: 0 and 1 are grey, 2 and 3 in colour; even ones are left."""
    gaps: tuple[_Positive, ...] = (1, 2, 5)
    """Distances between the frames of a pair."""

    @field_validator("gaps")
    @classmethod
    def _gaps_in_order(cls, gaps: tuple[int, ...]) -> tuple[int, ...]:
        if not gaps:
            raise ValueError("name at least one frame distance, such as --gaps 1")
        return tuple(sorted(set(gaps)))


class KittiRawConfig(DriveConfig):
    """KITTI raw data, synced and rectified: Velodyne points projected into successive frames."""

    source: Literal["kitti-raw"] = "kitti-raw"
    drives: tuple[str, ...] = ()
    """Drives such as 0052 or 2011_09_26_drive_0052; default all that are found."""

    def open_source(self) -> Source:
        return KittiRawSource(self, self.drives)


class KittiRawSource:
    """Pairs of frames at given distances in the drives under a root.

    Args:
        config: where the drives lie and how pairs are made.
        drives: names of the drives to take; empty for all.

    Raises:
        UserError: no such folder, no drives in it, or not the drives that are asked for.
    """

    def __init__(self, config: DriveConfig, drives: tuple[str, ...]) -> None:
        self._config = config
        found = find_drives(Path(config.root), config.camera, drives)
        self._drives = {f"{drive.sequence}-image_{config.camera:02d}": drive for drive in found}

    def pairs(self) -> list[PairRef]:
        for drive in self._drives.values():
            _ = drive.calibration, drive.movers
        pairs = [
            PairRef(sequence, f"{frame:010d}", f"{frame + gap:010d}")
            for sequence, drive in self._drives.items()
            for known in [set(drive.frames)]
            for frame in drive.frames
            for gap in self._config.gaps
            if frame + gap in known
        ]
        if not pairs:
            gaps = " or ".join(map(str, self._config.gaps))
            raise UserError(
                f"{self._config.root}: no two frames lie {gaps} apart; choose other --gaps"
            )
        return pairs

    def key(self, pair: PairRef) -> str:
        return f"{pair.sequence}-{pair.frame0}-{pair.frame1}"

    def inputs(self, pair: PairRef) -> list[Any]:
        drive = self._drives[pair.sequence]
        return [drive.digest, drive.sizes(int(pair.frame0)), drive.sizes(int(pair.frame1))]

    def load(self, pair: PairRef) -> Sample:
        drive = self._drives[pair.sequence]
        frame0, frame1 = drive.read(int(pair.frame0)), drive.read(int(pair.frame1))
        T_1_0 = _relative_pose(drive.calibration, frame0, frame1)
        found = _correspond(drive, pair, frame0, frame1, T_1_0)
        K = drive.calibration.K
        return assemble_sample(
            self._config,
            self.key(pair),
            pair,
            (frame0.image, frame1.image),
            Candidates(
                found.matches_N4,
                {"depth0": found.depth0_N, "depth1": found.depth1_N},
                found.rejected,
            ),
            PairGeometry("rigid", K, K, T_1_0, "metre"),
        )


def _relative_pose(calibration: Calibration, frame0: Frame, frame1: Frame) -> Floats:
    """``T_1_0`` of the camera at the two instants, metres."""
    T_velo1_velo0 = invert_rigid(frame1.T_world_velo) @ frame0.T_world_velo
    return calibration.T_cam_velo @ T_velo1_velo0 @ invert_rigid(calibration.T_cam_velo)


def _correspond(
    drive: Drive, pair: PairRef, frame0: Frame, frame1: Frame, T_1_0: Floats
) -> LidarMatches:
    calibration = drive.calibration
    points0_N3 = frame0.points_velo_N3[frame0.view.source_N]
    return match_scans(
        frame0.view,
        frame1.view,
        T_1_0,
        calibration.K,
        calibration.size,
        lidar_window(float(calibration.K[0, 0]), _CAMERA_HEIGHT),
        drive.movers.on_mover(points0_N3, int(pair.frame0), int(pair.frame1)),
    )
