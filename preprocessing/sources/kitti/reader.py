"""Reads the frames of a recording. A task holds everything but the images, scans and labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Array, Bools, Floats
from ucn.errors import SkippedPair
from ucn.geometry.rigid import invert_rigid
from ucn.preprocessing.labels.lidar.pairs import CameraModel, CameraScan, view_scan
from ucn.preprocessing.labels.lidar.point_tracks import TrackedImage
from ucn.preprocessing.labels.lidar.visibility import scan_grid
from ucn.preprocessing.sources.kitti.files import Calibration, read_image, read_scan
from ucn.preprocessing.sources.kitti.semantic import is_moving, read_labels
from ucn.preprocessing.sources.kitti.tracklets import LabelledObject, on_moving_object

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
        no_return: number of rows of the scan that are no returns.
    """

    image: Array
    view: CameraScan
    T_world_cam: Floats
    classes_N: NDArray[np.uint16] | None
    no_return: int

    @cached_property
    def tracked(self) -> TrackedImage:
        """The image, prepared for point tracking."""
        return TrackedImage(self.image)


@dataclass(frozen=True)
class FrameInputs:
    """What a frame is read from.

    Attributes:
        image, scan: the files; they may be missing.
        labels: semantic labels of the scan; None if there are none.
        pose: ``T_world_cam``, or why it is unknown.
    """

    image: Path
    scan: Path
    labels: Path | None
    pose: Floats | SkippedPair


@dataclass(frozen=True)
class SequenceReader:
    """Reads frames of a sequence, with a cache of the most recent ones. Picklable.

    Attributes:
        calibration: calibration of the camera and the LiDAR.
        frames: the frames by number.
        objects: labelled objects in these frames.
    """

    calibration: Calibration
    frames: Mapping[int, FrameInputs]
    objects: tuple[LabelledObject, ...]

    def __getstate__(self) -> dict[str, Any]:
        """The fields, without the caches."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def rig(self) -> CameraModel:
        """Camera model of the sequence."""
        return camera_model(self.calibration)

    def read(self, frame: int) -> LidarFrame:
        """Read a frame.

        Raises:
            SkippedPair: a file is missing or damaged, or the pose is unknown.
        """
        return self._cached(frame)

    def on_dynamic_object(self, frame0: int, frame1: int) -> Bools:
        """Mask of the points of frame 0's view that the labels place on a moving object."""
        frame = self.read(frame0)
        if frame.classes_N is not None:
            return is_moving(frame.classes_N)
        if not self.objects:
            return np.zeros(len(frame.view.source_N), bool)
        T_velo_cam = invert_rigid(self.calibration.T_cam_velo)
        velo_3N = T_velo_cam[:3, :3] @ frame.view.points_3N + T_velo_cam[:3, 3:]
        return on_moving_object(self.objects, velo_3N, frame0, frame1)

    @cached_property
    def _cached(self) -> Callable[[int], LidarFrame]:
        return lru_cache(_CACHED_FRAMES)(self._read)

    def _read(self, frame: int) -> LidarFrame:
        inputs = self.frames[frame]
        image = read_image(inputs.image, self.calibration.size)
        scan_R4, returned_N = read_scan(inputs.scan)
        view = view_scan(scan_R4, self.calibration.T_cam_velo, self.rig)
        classes_N = None
        if inputs.labels is not None:
            labels_N = read_labels(inputs.labels, len(returned_N))
            classes_N = labels_N[returned_N].take(view.source_N)
        if isinstance(inputs.pose, SkippedPair):
            raise inputs.pose.with_traceback(None)
        no_return = len(returned_N) - len(scan_R4)
        return LidarFrame(image, view, inputs.pose, classes_N, no_return)


def camera_model(calibration: Calibration) -> CameraModel:
    """Camera model of a calibrated camera on KITTI's car."""
    K, size = calibration.K, calibration.size
    return CameraModel(K, size, scan_grid(size, float(K[0, 0]), CAMERA_HEIGHT))
