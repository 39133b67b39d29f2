"""Files of benchmarks of planar scenes: a folder a scene, images, and a homography a pair."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ucn.arrays import Array, Floats
from ucn.errors import SkippedPair, UserError
from ucn.images.read import read_photo


@dataclass(frozen=True)
class PlanarPair:
    """Two photographs of a plane, or from one place.

    Attributes:
        sequence: name of the scene's folder.
        path0, path1: files of the images; image 0 is the first of its scene.
        H_1_0: float64 [3, 3], from pixels of image 0 to pixels of image 1, centres at integers.
    """

    sequence: str
    path0: Path
    path1: Path
    H_1_0: Floats


def read_homography(path: Path) -> Floats:
    """Read nine numbers, three a row: float64 [3, 3].

    Raises:
        UserError: missing, not nine finite numbers, or without an inverse.
    """
    try:
        numbers = [float(word) for word in path.read_text("ascii").split()]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; restore the homography") from None
    except ValueError:  # UnicodeDecodeError is one, too
        numbers = []
    if len(numbers) != 9 or not np.isfinite(numbers).all():
        raise UserError(f"{path}: not nine finite numbers; restore the homography")
    matrix = np.asarray(numbers, np.float64).reshape(3, 3)
    if np.linalg.matrix_rank(matrix) < 3:
        raise UserError(f"{path}: a homography without an inverse; restore it")
    return matrix


def read_image(path: Path) -> Array:
    """Read an image: uint8 [H, W] or [H, W, 3] RGB.

    Raises:
        UserError: missing or damaged. A benchmark is whole or it is not that benchmark.
    """
    try:
        return read_photo(path, path.parent)
    except SkippedPair as fault:
        raise UserError(f"{path}: {fault.reason}; restore the image") from None


def scene_folders(root: Path) -> list[Path]:
    """Folders below the root of a benchmark, sorted.

    Raises:
        UserError: the root is no folder.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the root of the benchmark")
    return sorted(path for path in root.iterdir() if path.is_dir())
