"""Dynamic objects: found where one scan sees through, or into, the other scan's surfaces."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Bools, Floats

_CELL = 0.4  # side of a bird's-eye-view cell, metres; cars in traffic are farther apart
_FINER = 2  # fine cells per cell side; a place is empty if no adjacent fine cell has a point
_FINE_CELL = _CELL / _FINER
_GROUND_RADIUS = 2  # cells around a cell in which the ground is searched
_OBJECT_HEIGHTS = (0.3, 3.0)  # metres above the ground: kerbs are lower, bridges higher
_ROAD_HEIGHT = 0.1  # metres; points below this height are road
# Beyond this range, in metres, objects have few, scattered points. There, cells of an object need
# not touch, the ground is searched in a larger window (rows along the view, columns), and beams
# without a return count as passing through.
SPARSE_RANGE = 35.0
_SPARSE_GROUND = (41, 9)
# An object moved if enough of its points are at places that the other scan sees as empty: at least
# this number, and this fraction of the points that the other camera faces. _UNCOVERED applies to
# both scans together, _UNCOVERED_IN_ONE to one scan alone.
_UNCOVERED = (3, 0.08)
_UNCOVERED_IN_ONE = (20, 0.04)
# An object also moved if at least the fraction _SHIFTED_PART of its compared points agree that the
# surface is farther (or nearer) in the other scan, by _SHIFT: metres plus a fraction of the depth.
# _COMPARED is the least number of compared points, and their least fraction of the faced points.
_SHIFTED_PART = 0.5
_SHIFT = (0.06, 0.007)
_COMPARED = (10, 0.4)


@dataclass(frozen=True)
class AboveGround:
    """Points of a scan that may belong to objects above the road.

    Attributes:
        index_A: indices of the points in the scan.
        points_3A: their coordinates.
        rises_A: whether each is clearly above the road.
    """

    index_A: NDArray[np.intp]
    points_3A: Floats
    rises_A: Bools


@dataclass(frozen=True)
class Evidence:
    """Above-ground points of one of two scans, compared with the other scan.

    Attributes:
        points_3A: in the frame of the second camera (y down, z forward), metres.
        rises_A: whether each is clearly above the road.
        faced_A: whether each is inside the other camera's image and not hidden in its own.
        uncovered_A: whether the other scan sees through each.
        shift_A: depth of the surface in the other scan minus the depth in this one, metres; NaN
            where the other scan does not see it.
    """

    points_3A: Floats
    rises_A: Bools
    faced_A: Bools
    uncovered_A: Bools
    shift_A: NDArray[np.float32]


def above_ground_points(points_3N: Floats) -> AboveGround:
    """Selects points above the lowest point around them, up to the height of objects.

    Args:
        points_3N: a scan in a frame whose y axis points down, metres.
    """
    if not points_3N.size:
        return AboveGround(np.zeros(0, np.intp), points_3N, np.zeros(0, bool))
    rows_N, columns_N, shape = _birdseye(_CELL, points_3N)
    cells_N = rows_N * shape[1] + columns_N
    up_N = -points_3N[1].astype(np.float32)
    lowest = np.full(shape, np.float32(1e6))
    np.minimum.at(lowest.ravel(), cells_N, up_N)
    side = 2 * _GROUND_RADIUS + 1
    ground = cv2.erode(lowest, np.ones((side, side), np.uint8))
    far = _far_rows(points_3N)
    ground[far] = cv2.erode(lowest, np.ones(_SPARSE_GROUND, np.uint8))[far]
    heights_N = up_N - ground.ravel().take(cells_N)
    index_A = np.flatnonzero((heights_N > _ROAD_HEIGHT) & (heights_N < _OBJECT_HEIGHTS[1]))
    return AboveGround(
        index_A, points_3N.take(index_A, axis=1), heights_N.take(index_A) > _OBJECT_HEIGHTS[0]
    )


@dataclass(frozen=True)
class Objects:
    """Objects that the above-ground points of a scan belong to.

    Attributes:
        labels_A: object of each point; 0 for none.
        moved_L: whether each object moved between the two scans; False for object 0.
    """

    labels_A: NDArray[np.int32]
    moved_L: Bools

    @property
    def moving_A(self) -> Bools:
        """Whether each point belongs to an object that moved."""
        moving_A: Bools = self.moved_L.take(self.labels_A)
        return moving_A


def find_objects(scan0: Evidence, scan1: Evidence) -> Objects:
    """Groups the above-ground points of scan 0 into objects, and finds those that moved.

    Single points are not enough to detect motion. The side of a crossing car looks the same a
    moment later wherever it overlaps its former place; only its ends differ. A car that drives
    ahead is seen slightly farther, with all its points. So the points of both scans are grouped
    into objects (connected bird's-eye-view cells above the ground), and each object is judged as a
    whole.
    """
    count0 = scan0.points_3A.shape[1]
    if not (scan0.rises_A.any() and scan1.rises_A.any()):
        return Objects(np.zeros(count0, np.int32), np.zeros(1, bool))
    points_3B = np.concatenate([scan0.points_3A, scan1.points_3A], axis=1)
    rises_B = np.concatenate([scan0.rises_A, scan1.rises_A])
    rows_B, columns_B, (rows, columns) = _birdseye(_FINE_CELL, points_3B)
    fine_B = rows_B * columns + columns_B
    shape = (rows // _FINER + 1, columns // _FINER + 1)
    cells_B = (rows_B // _FINER) * shape[1] + columns_B // _FINER
    occupied = np.zeros(shape, np.uint8)
    occupied.ravel()[cells_B[rises_B]] = 1
    far = _far_rows(points_3B)
    occupied[far] = cv2.dilate(occupied, np.ones((3, 3), np.uint8))[far]
    count, labels = cv2.connectedComponents(occupied, connectivity=8)
    labels_B = np.asarray(labels, np.int32).ravel().take(cells_B)
    own0, own1 = slice(count0), slice(count0, None)
    votes = [
        _count_votes(scan, labels_B[own], count, fine_B[own], around)
        for scan, own, around in (
            (scan0, own0, _around(fine_B[own1][scan1.rises_A], (rows, columns))),
            (scan1, own1, _around(fine_B[own0][scan0.rises_A], (rows, columns))),
        )
    ]
    moved = _uncovered(votes) | _shifted(votes)
    moved[0] = False
    return Objects(labels_B[own0], moved)


@dataclass(frozen=True)
class _Votes:
    """Counts of one scan's points, by object.

    Attributes:
        faced: points that the other camera faces.
        compared: points that the other scan sees or sees through.
        uncovered: points at places that the other scan sees as empty.
        farther, nearer: points whose surface is farther or nearer in the other scan.
    """

    faced: NDArray[np.intp]
    compared: NDArray[np.intp]
    uncovered: NDArray[np.intp]
    farther: NDArray[np.intp]
    nearer: NDArray[np.intp]


def _count_votes(
    scan: Evidence,
    labels_A: NDArray[np.int32],
    count: int,
    fine_A: NDArray[np.intp],
    around_other: NDArray[np.uint8],
) -> _Votes:
    """Counts one scan's votes.

    Args:
        scan: the scan.
        labels_A: object of each point, below ``count``.
        count: number of objects.
        fine_A: fine cell of each point.
        around_other: fine cells that contain, or are adjacent to, a point of the other scan.
    """

    threshold_A = (_SHIFT[0] + _SHIFT[1] * scan.points_3A[2]).astype(np.float32)
    flags = (
        scan.faced_A,
        np.isfinite(scan.shift_A),
        scan.uncovered_A & (around_other.ravel().take(fine_A) == 0),
        scan.shift_A > threshold_A,
        scan.shift_A < -threshold_A,
    )
    # All flags of a point are packed into one number, so that one histogram counts them all.
    bits_A = np.zeros(len(labels_A), np.uint8)
    for bit, flags_A in enumerate(flags):
        bits_A |= flags_A.view(np.uint8) << np.uint8(bit)
    code_A = (labels_A << len(flags)) + bits_A
    histogram = np.bincount(code_A[scan.rises_A], minlength=count << len(flags))
    by_object = histogram.reshape(count, 1 << len(flags))
    with_bit = np.arange(1 << len(flags))[:, None] >> np.arange(len(flags)) & 1
    return _Votes(*(by_object @ with_bit).T)


def _uncovered(votes: list[_Votes]) -> Bools:
    faced = np.stack([scan.faced for scan in votes])
    uncovered = np.stack([scan.uncovered for scan in votes])
    in_both = uncovered.sum(0) >= np.maximum(_UNCOVERED[0], _UNCOVERED[1] * faced.sum(0))
    in_one = uncovered >= np.maximum(_UNCOVERED_IN_ONE[0], _UNCOVERED_IN_ONE[1] * faced)
    return np.asarray(in_both | in_one.any(0))


def _shifted(votes: list[_Votes]) -> Bools:
    faced, compared = (sum(v.faced for v in votes), sum(v.compared for v in votes))
    # A surface that scan 1 sees farther than scan 0 appears nearer to scan 0.
    balance = votes[0].farther - votes[0].nearer - votes[1].farther + votes[1].nearer
    enough = compared >= np.maximum(_COMPARED[0], _COMPARED[1] * faced)
    return np.asarray(enough & (np.abs(balance) >= _SHIFTED_PART * compared))


def _around(fine_N: NDArray[np.intp], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Cells that contain a point, or are adjacent to one that does."""
    occupied = np.zeros(shape, np.uint8)
    occupied.ravel()[fine_N] = 1
    return np.asarray(cv2.dilate(occupied, np.ones((3, 3), np.uint8)), np.uint8)


def _far_rows(points_3N: Floats) -> slice:
    """Rows of cells beyond the sparse range."""
    return slice(max(int((SPARSE_RANGE - points_3N[2].min()) / _CELL), 0), None)


def _birdseye(
    cell: float, points_3N: Floats
) -> tuple[NDArray[np.intp], NDArray[np.intp], tuple[int, int]]:
    """Row (along z) and column (along x) of the cell of each point, and the grid's shape."""
    rows_N, columns_N = (
        ((along_N - along_N.min()) * (1 / cell)).astype(np.intp)
        for along_N in (points_3N[2], points_3N[0])
    )
    return rows_N, columns_N, (int(rows_N.max()) + 1, int(columns_N.max()) + 1)
