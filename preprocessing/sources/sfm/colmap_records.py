"""Records of COLMAP's sparse models, in COLMAP's own conventions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Floats
from ucn.errors import UserError

# The number that a detection without a 3D point has.
NO_POINT = -1


@dataclass(frozen=True)
class CameraRecord:
    """A camera: name of its model, (width, height) and the model's parameters."""

    model: str
    size: tuple[int, int]
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ImageRecord:
    """An image.

    Attributes:
        name: path below the folder of images.
        camera: number of its camera.
        quaternion_4: w, x, y, z of the rotation from world to camera.
        translation_3: of that motion.
        pixels_N2: detections; (0.5, 0.5) is the centre of the top-left pixel.
        points_N: number of the 3D point of each, :data:`NO_POINT` for none.
    """

    name: str
    camera: int
    quaternion_4: Floats
    translation_3: Floats
    pixels_N2: Floats
    points_N: NDArray[np.int64]


@dataclass(frozen=True)
class PointRecords:
    """All 3D points: their numbers and their positions in the world."""

    numbers_P: NDArray[np.int64]
    points_P3: Floats


def damaged(path: Path, what: str) -> UserError:
    """The error for a file of a model that cannot be read."""
    return UserError(f"{path}: {what}; copy or export the model anew")
