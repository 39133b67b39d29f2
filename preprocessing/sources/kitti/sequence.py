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
# Pairs come ordered by their first frame: this many frames back a gap may reach without rereading.
_CACHED_FRAMES = 32


@dataclass(frozen=True)
class LidarFrame:
    """One instant of a sequence.

    Attributes:
        image: uint8 [H, W] or RGB [H, W, 3].
        view: the part of the scan inside the image.
        T_world_cam: pose of the camera, metres.
        classes_N: uint16 semantic class of each point of the view; None without labels.
    """

    image: Array
    view: CameraScan
    T_world_cam: Floats
    classes_N: NDArray[np.uint16] | None = None

    @cached_property
    def tracked(self) -> TrackedImage:
        """The image as points are followed in it."""
        return TrackedImage(self.image)


class LidarSequence(ABC):
    """What a source of LiDAR pairs needs of one recording.

    Attributes:
        name: unique over the dataset.
        digits: of a frame's number in file names.
    """

    name: str
    digits: int

    def __init__(self) -> None:
        self._cached = lru_cache(_CACHED_FRAMES)(self.read_frame)

    @property
    @abstractmethod
    def calibration(self) -> Calibration:
        """Of the camera and the LiDAR."""

    @property
    @abstractmethod
    def frames(self) -> list[int]:
        """Numbers of the frames of which any sensor has a file, ascending."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Of the small files that bear on every pair."""

    @abstractmethod
    def sizes(self, frame: int) -> list[int]:
        """Bytes of the frame's files; -1 for a missing one."""

    @abstractmethod
    def camera_pose(self, frame: int) -> Floats:
        """``T_world_cam`` of the frame.

        Raises:
            SkippedPair: it is not known.
        """

    @abstractmethod
    def read_frame(self, frame: int) -> LidarFrame:
        """Read a frame from its files.

        Raises:
            SkippedPair: a file is missing or damaged.
        """

    @abstractmethod
    def on_dynamic_object(self, frame0: int, frame1: int) -> Bools:
        """Which points of frame 0's view the dataset's labels have on an object that moves."""

    def class_names(self) -> Mapping[int, str]:
        """Names of the semantic classes."""
        return {}

    def read(self, frame: int) -> LidarFrame:
        """Read a frame, or take it from the last ones read.

        Raises:
            SkippedPair: a file is missing or damaged.
        """
        return self._cached(frame)

    @cached_property
    def rig(self) -> CameraModel:
        """Of the sequence's camera."""
        K, size = self.calibration.K, self.calibration.size
        return CameraModel(K, size, scan_grid(size, float(K[0, 0]), CAMERA_HEIGHT))

    def view(self, scan_N4: NDArray[np.float32]) -> CameraScan:
        """What the camera sees of a scan."""
        return view_scan(scan_N4, self.calibration.T_cam_velo, self.rig)

    def known_pose(self, frame: int) -> Floats | None:
        """``T_world_cam`` of the frame, or None."""
        try:
            return self.camera_pose(frame)
        except SkippedPair:
            return None
