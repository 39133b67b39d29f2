"""One recording of a camera and a LiDAR, and a cache of its decoded frames."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Array, Bools, Floats
from ucn.errors import SkippedPair
from ucn.preprocessing.labels.lidar.pairs import CameraModel, CameraScan, view_scan
from ucn.preprocessing.labels.lidar.point_tracks import TrackedImage
from ucn.preprocessing.labels.lidar.visibility import scan_grid
from ucn.preprocessing.sources.kitti.files import Calibration

# Height of KITTI's cameras above the road (sensor setup, IJRR 2013), metres.
CAMERA_HEIGHT = 1.65
# Pairs are sorted by their first frame. Gaps up to this many frames read each frame once.
_CACHED_FRAMES = 32


@dataclass(frozen=True)
class LidarFrame:
    """One frame of a sequence.

    Attributes:
        image: uint8 [H, W] or RGB [H, W, 3].
        view: the points of the scan that project into the image.
        T_world_cam: 4x4 pose of the camera, metres.
        classes_N: uint16 semantic class of each point of the view; None without labels.
    """

    image: Array
    view: CameraScan
    T_world_cam: Floats
    classes_N: NDArray[np.uint16] | None = None

    @cached_property
    def tracked(self) -> TrackedImage:
        """The image, prepared for point tracking."""
        return TrackedImage(self.image)


class LidarSequence(ABC):
    """One recording of a camera and a LiDAR.

    Attributes:
        name: unique in the dataset.
        digits: number of digits of frame numbers in file names.
    """

    name: str
    digits: int

    def __init__(self) -> None:
        self._cached = lru_cache(_CACHED_FRAMES)(self.read_frame)

    @property
    @abstractmethod
    def calibration(self) -> Calibration:
        """Calibration of the camera and the LiDAR."""

    @property
    @abstractmethod
    def frames(self) -> list[int]:
        """Ascending numbers of the frames for which at least one sensor has a file."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Digest of the small files that affect every pair."""

    @abstractmethod
    def sizes(self, frame: int) -> list[int]:
        """Sizes in bytes of the frame's files; -1 for missing files."""

    @abstractmethod
    def camera_pose(self, frame: int) -> Floats:
        """``T_world_cam`` of the frame.

        Raises:
            SkippedPair: the pose is unknown.
        """

    @abstractmethod
    def read_frame(self, frame: int) -> LidarFrame:
        """Read a frame from its files.

        Raises:
            SkippedPair: a file is missing or damaged.
        """

    @abstractmethod
    def on_dynamic_object(self, frame0: int, frame1: int) -> Bools:
        """Mask of the points of frame 0's view that the labels place on a moving object."""

    def class_names(self) -> Mapping[int, str]:
        """Names of the semantic classes by number."""
        return {}

    def read(self, frame: int) -> LidarFrame:
        """Read a frame, with a cache of the most recent ones.

        Raises:
            SkippedPair: a file is missing or damaged.
        """
        return self._cached(frame)

    @cached_property
    def rig(self) -> CameraModel:
        """Camera model of the sequence."""
        K, size = self.calibration.K, self.calibration.size
        return CameraModel(K, size, scan_grid(size, float(K[0, 0]), CAMERA_HEIGHT))

    def view(self, scan_N4: NDArray[np.float32]) -> CameraScan:
        """The points of a scan that project into the image."""
        return view_scan(scan_N4, self.calibration.T_cam_velo, self.rig)

    def known_pose(self, frame: int) -> Floats | None:
        """``T_world_cam`` of the frame; None if it is unknown."""
        try:
            return self.camera_pose(frame)
        except SkippedPair:
            return None
