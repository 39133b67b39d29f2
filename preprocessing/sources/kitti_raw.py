"""KITTI raw: Velodyne points projected into two frames of one rectified camera.

Layout: ``ROOT/DATE/DATE_drive_NNNN_sync/{image_0C,velodyne_points,oxts}/data`` and the three
calibration files in ``ROOT/DATE`` (Geiger et al., "Vision meets Robotics", IJRR 2013).
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.config import DriveConfig
from preprocessing.errors import SkippedPair, UserError
from preprocessing.geometry import Floats, invert_rigid
from preprocessing.lidar_pairs import LidarMatches, match_scans
from preprocessing.sample import Sample
from preprocessing.sources.base import PairRef
from preprocessing.sources.kitti_drive import Drive, Frame, find_drives
from preprocessing.sources.kitti_files import Calibration
from preprocessing.subsample import spread_sample
from preprocessing.visibility import lidar_window

# Height of the cameras above the road (sensor setup, IJRR 2013), metres.
_CAMERA_HEIGHT = 1.65


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
        self._drives = {drive.sequence: drive for drive in found}

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
        return f"{self._sequence(pair)}-{pair.frame0}-{pair.frame1}"

    def inputs(self, pair: PairRef) -> list[Any]:
        drive = self._drives[pair.sequence]
        return [drive.digest, drive.sizes(int(pair.frame0)), drive.sizes(int(pair.frame1))]

    def load(self, pair: PairRef) -> Sample:
        drive = self._drives[pair.sequence]
        frame0, frame1 = drive.read(int(pair.frame0)), drive.read(int(pair.frame1))
        T_1_0 = _relative_pose(drive.calibration, frame0, frame1)
        found = _correspond(drive, pair, frame0, frame1, T_1_0)
        matches_N4 = found.matches_N4.astype(np.float32)
        unique_N = np.sort(np.unique(matches_N4, axis=0, return_index=True)[1])
        if len(unique_N) < self._config.min_matches:
            raise SkippedPair(
                "too few matches", f"{len(unique_N)} of at least {self._config.min_matches}"
            )
        seed = [self._config.seed, *hashlib.sha256(self.key(pair).encode()).digest()[:4]]
        chosen_N = unique_N[
            spread_sample(found.matches_N4[unique_N, :2], self._config.max_matches, seed)
        ]
        rejected = found.rejected | {
            "duplicate": len(matches_N4) - len(unique_N),
            "beyond max_matches": len(unique_N) - len(chosen_N),
        }
        return Sample(
            key=self.key(pair),
            image0=frame0.image,
            image1=frame1.image,
            matches_N4=matches_N4[chosen_N],
            attributes={
                "depth0": found.depth0_N[chosen_N].astype(np.float32),
                "depth1": found.depth1_N[chosen_N].astype(np.float32),
            },
            metadata=self._metadata(drive, pair, T_1_0, len(chosen_N), rejected),
        )

    def _metadata(
        self,
        drive: Drive,
        pair: PairRef,
        T_1_0: Floats,
        matches: int,
        rejected: dict[str, int],
    ) -> dict[str, Any]:
        K, size = drive.calibration.K.tolist(), list(drive.calibration.size)
        return {
            "source": self._config.source,
            "sequence": self._sequence(pair),
            "frame0": pair.frame0,
            "frame1": pair.frame1,
            "size0": size,
            "size1": size,
            "K0": K,
            "K1": K,
            "T_1_0": T_1_0.tolist(),
            "unit": "metre",
            "kind": "rigid",
            "matches": matches,
            "rejected": rejected,
        }

    def _sequence(self, pair: PairRef) -> str:
        return f"{pair.sequence}-image_{self._config.camera:02d}"


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
