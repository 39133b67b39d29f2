"""Moving objects: found in two scans by what they uncover, or given as labelled boxes."""

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.geometry import Bools, Floats

_CELL = 0.4  # metres of a bird's-eye cell; cars in traffic stand farther apart
_GROUND_RADIUS = 2  # cells around a cell in which the ground is looked for
_OBJECT_HEIGHTS = (0.3, 3.0)  # metres above the ground: kerbs below, bridges above
# An object moved when at least this many of its points, and this part of them, were at a place
# that the other scan looks through.
_MIN_UNCOVERED = 3
_MIN_UNCOVERED_PART = 0.08
# Beyond this an object is a few scattered samples: one that moved takes along all within reach.
_SPARSE_RANGE = 35.0  # metres
# Cells along the view (beams pass through windows to what lies behind) and across it (somewhat over
# half a car's length).
_SPARSE_REACH = (16, 7)


def moving_clusters(points_N3: Floats, uncovered_N: Bools) -> Bools:
    """Which points belong to an object that moved between two scans.

    A crossing car's flat side looks the same a moment later wherever it overlaps its former
    place; only its ends give it away. So the points of both scans are joined to objects (connected
    bird's-eye cells that rise above the ground), and an object moves as a whole.

    Args:
        points_N3: both scans in one frame whose y axis points down, metres.
        uncovered_N: points that the other scan looks through.
    """
    if not uncovered_N.any():
        return np.zeros(len(points_N3), bool)
    cells = _Cells(points_N3)
    labels = _label_objects(cells)
    labels_N = labels.ravel()[cells.flat_N]
    sizes = np.bincount(labels_N, minlength=labels.max() + 1)
    uncovered = np.bincount(labels_N, weights=uncovered_N, minlength=len(sizes))
    moved = (uncovered >= _MIN_UNCOVERED) & (uncovered >= _MIN_UNCOVERED_PART * sizes)
    moved[0] = False
    moved_cells = moved[labels].astype(np.uint8)
    reach = np.ones([2 * side + 1 for side in _SPARSE_REACH], np.uint8)
    sparse_N = points_N3[:, 2] > _SPARSE_RANGE
    moving_N: Bools = moved_cells.ravel()[cells.flat_N] > 0
    moving_N |= sparse_N & (cv2.dilate(moved_cells, reach).ravel()[cells.flat_N] > 0)
    return moving_N & cells.low_N


def inside_box(
    points_N3: Floats, bottom: Floats, size: tuple[float, float, float], yaw: float, margin: float
) -> Bools:
    """Which points lie in an upright box.

    Args:
        points_N3: points in a frame whose z axis points up, metres.
        bottom: centre of the box's bottom.
        size: (height, width, length), the length along the box's x axis.
        yaw: about z, radians.
        margin: metres by which the box is grown on every side, its bottom excepted: the road
            under a car does not move.
    """
    height, width, length = size
    c, s = np.cos(yaw), np.sin(yaw)
    offset = points_N3 - bottom
    along = c * offset[:, 0] + s * offset[:, 1]
    across = -s * offset[:, 0] + c * offset[:, 1]
    inside: Bools = (
        (np.abs(along) <= length / 2 + margin)
        & (np.abs(across) <= width / 2 + margin)
        & (offset[:, 2] >= 0)
        & (offset[:, 2] <= height + margin)
    )
    return inside


class _Cells:
    """Points in bird's-eye cells.

    Attributes:
        shape: rows and columns of the grid.
        flat_N: index of each point's cell in the flattened grid.
        above_N: height of each point above the lowest one around it, metres.
        low_N: points that are not high overhead.
    """

    def __init__(self, points_N3: Floats) -> None:
        cells_N2 = np.floor(points_N3[:, [2, 0]] / _CELL).astype(np.intp)
        cells_N2 -= cells_N2.min(0)
        rows, columns = (int(extent) + 1 for extent in cells_N2.max(0))
        self.shape = (rows, columns)
        self.flat_N: NDArray[np.intp] = cells_N2[:, 0] * columns + cells_N2[:, 1]
        up_N = -points_N3[:, 1].astype(np.float32)
        lowest = np.full(rows * columns, np.float32(1e6))
        np.minimum.at(lowest, self.flat_N, up_N)
        side = 2 * _GROUND_RADIUS + 1
        ground = cv2.erode(lowest.reshape(self.shape), np.ones((side, side), np.uint8))
        self.above_N = up_N - ground.ravel()[self.flat_N]
        self.low_N: Bools = self.above_N < _OBJECT_HEIGHTS[1]


def _label_objects(cells: _Cells) -> NDArray[np.int32]:
    """Number of each cell's object; 0 for flat ground.

    An object's cells touch points of different heights. Beyond some 20 m the LiDAR's rings meet
    the road farther apart than cars are long, so a fitted road would be of no help there.
    """
    occupied = np.zeros(cells.shape, np.uint8)
    occupied.ravel()[cells.flat_N[(cells.above_N > _OBJECT_HEIGHTS[0]) & cells.low_N]] = 1
    return cv2.connectedComponents(occupied, connectivity=8)[1].astype(np.int32)
