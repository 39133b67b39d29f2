"""Records of COLMAP's sparse models, in COLMAP's own conventions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Floats
from ucn.errors import UserError

# ID of the 3D point of a keypoint that has none.
NO_POINT = -1


@dataclass(frozen=True)
class CameraRecord:
    """A camera: name of the camera model, (width, height) and the model's parameters."""

    model: str
    size: tuple[int, int]
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ImageRecord:
    """An image.

    Attributes:
        name: path relative to the folder of images.
        camera: ID of the camera.
        quaternion_4: rotation from world to camera, as w, x, y, z.
        translation_3: translation from world to camera.
        pixels_N2: keypoints; (0.5, 0.5) is the centre of the top-left pixel.
        points_N: ID of the 3D point of each keypoint; :data:`NO_POINT` for none.
    """

    name: str
    camera: int
    quaternion_4: Floats
    translation_3: Floats
    pixels_N2: Floats
    points_N: NDArray[np.int64]


@dataclass(frozen=True)
class PointRecords:
    """All 3D points: IDs and positions in the world."""

    numbers_P: NDArray[np.int64]
    points_P3: Floats


def damaged(path: Path, what: str) -> UserError:
    """Make the error for a damaged file of a model.

    Args:
        path: the file.
        what: description of the damage.
    """
    return UserError(f"{path}: {what}; copy or export the model anew")
