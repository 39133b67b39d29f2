"""Files of planar benchmarks: one folder per scene, with images and one homography per pair."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ucn.arrays import Array, Floats
from ucn.errors import SkippedPair, UserError
from ucn.images.read import read_photo
from ucn.preprocessing.sources.input_files import read_words


@dataclass(frozen=True)
class PlanarPair:
    """Two photographs that are related by a homography.

    Attributes:
        sequence: name of the scene's folder.
        path0, path1: files of the images; image 0 is the first one of its scene.
        H_1_0: float64 [3, 3], pixels of image 0 to pixels of image 1; pixel centres are integers.
    """

    sequence: str
    path0: Path
    path1: Path
    H_1_0: Floats


def read_homography(path: Path) -> Floats:
    """Read a homography from a text file of nine numbers: float64 [3, 3].

    Raises:
        UserError: the file is missing, does not have nine finite numbers, or the homography is
            singular.
    """
    try:
        numbers = [float(word) for word in read_words(path)]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; restore the homography") from None
    except ValueError:
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
        UserError: the image is missing or damaged. No image of a benchmark may be skipped.
    """
    try:
        return read_photo(path, path.parent)
    except SkippedPair as fault:
        raise UserError(f"{path}: {fault.reason}; restore the image") from None


def scene_folders(root: Path) -> list[Path]:
    """List the folders in the root of a benchmark, sorted.

    Raises:
        UserError: the root is not a folder.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the root of the benchmark")
    return sorted(path for path in root.iterdir() if path.is_dir())
