"""The PhotoTourism patches (Brown, Hua and Winder, PAMI 2011; Winder and Brown, CVPR 2007).

``patches0000.bmp``, ... are sheets of 16 x 16 patches of 64 x 64 grey pixels, row by row.
``info.txt`` has one line per patch, which starts with the index of its 3D point. Lists of pairs,
such as ``m50_100000_100000_0.txt``, have lines of patch, point, unused, patch, point, unused, ...
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ucn.errors import SkippedPair, UserError
from ucn.images.read import read_photo
from ucn.matching.descriptors import Pixels

PATCH = 64
"""Side of a patch, pixels."""
POINTS = "info.txt"
"""File with the 3D point of each patch."""
TEST_LIST = "m50_100000_100000_0.txt"
"""List of 100,000 pairs, half of them matching, on which FPR95 is reported."""

_PER_SIDE = 16
_PER_SHEET = _PER_SIDE**2
# Columns of a pair's line: first patch, its point, second patch, its point.
_COLUMNS = (0, 1, 3, 4)

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PatchPairs:
    """Pairs of patches to verify.

    Attributes:
        first_N, second_N: indices of the patches.
        same_N: bool, whether both show the same 3D point.
    """

    first_N: Ints
    second_N: Ints
    same_N: NDArray[np.bool_]


def read_points(folder: Path) -> Ints:
    """Reads the 3D point of each patch: int64 [P].

    Raises:
        UserError: the list is missing, empty or damaged.
    """
    return _read_columns(folder / POINTS, (0,))[:, 0]


def read_pairs(folder: Path, name: str = TEST_LIST) -> PatchPairs:
    """Reads a list of pairs and checks it against ``info.txt``.

    Raises:
        UserError: a list is missing or damaged, or the two disagree.
    """
    points_P = read_points(folder)
    path = folder / name
    first_N, point0_N, second_N, point1_N = _read_columns(path, _COLUMNS).T
    patches_2N = np.stack([first_N, second_N])
    if patches_2N.max() >= len(points_P):
        raise UserError(
            f"{path}: patch {patches_2N.max()}, but info.txt has {len(points_P)}; "
            "restore the lists of one scene"
        )
    if (points_P[patches_2N] != [point0_N, point1_N]).any():
        raise UserError(f"{path}: other points than in info.txt; restore the lists of one scene")
    return PatchPairs(first_N, second_N, point0_N == point1_N)


def read_patches(folder: Path, numbers_N: Ints) -> Pixels:
    """Reads patches by index, opening each sheet once: uint8 [N, 64, 64].

    Raises:
        UserError: a sheet is missing, or is not a grey image of 1024 x 1024 pixels.
    """
    patches_NHW = np.empty((len(numbers_N), PATCH, PATCH), np.uint8)
    sheet_N, place_N = np.divmod(numbers_N, _PER_SHEET)
    for sheet in np.unique(sheet_N):
        chosen = np.flatnonzero(sheet_N == sheet)
        patches_NHW[chosen] = _read_sheet(folder, int(sheet))[place_N[chosen]]
    return patches_NHW


def _read_sheet(folder: Path, number: int) -> Pixels:
    """All patches of a sheet: uint8 [256, 64, 64]."""
    path = folder / f"patches{number:04d}.bmp"
    try:
        sheet = read_photo(path, folder)
    except SkippedPair as fault:
        raise UserError(f"{path}: {fault.reason}; restore the sheet") from None
    grey = sheet[..., 0] if sheet.ndim == 3 else sheet
    side = _PER_SIDE * PATCH
    if grey.shape != (side, side):
        raise UserError(f"{path}: {grey.shape[1]} x {grey.shape[0]} pixels, not {side} x {side}")
    rows = grey.reshape(_PER_SIDE, PATCH, _PER_SIDE, PATCH).swapaxes(1, 2)
    return rows.reshape(_PER_SHEET, PATCH, PATCH)


def _read_columns(path: Path, columns: tuple[int, ...]) -> Ints:
    """Reads non-negative integers from some columns: int64 [N, C]."""
    try:
        lines = [line.split() for line in path.read_text("ascii").splitlines()]
        table = np.array([[int(words[column]) for column in columns] for words in lines], np.int64)
    except OSError:
        raise UserError(f"{path}: missing or unreadable; restore the list") from None
    except (ValueError, IndexError, OverflowError):
        raise UserError(f"{path}: a line of other columns; restore the list") from None
    if not len(table) or table.min() < 0:
        raise UserError(f"{path}: empty or with a negative number; restore the list")
    return table
