"""Visibility of sparse scan points in a camera: a z-buffer over the samples of a spinning LiDAR.

A LiDAR next to the camera samples the scene at about 5 x 2 pixels. Points of a background surface
therefore show between the samples of a surface in front of it, so each point is compared with the
samples around it. Inverse depths are compared, since they are linear in the image over any plane:
on one surface, a nearer sample on one side implies a farther one on the other side.

Neighbourhoods are computed once per scan, as running maxima over the whole map. Each point then
needs one lookup.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Bools, Floats

Map = NDArray[np.float32]
"""Inverse depths [rows, columns] over a :class:`ScanGrid`, 1/metres; 0 without a sample."""
Cells = NDArray[np.intp]
"""Index [N] of each point's cell in a flattened :data:`Map`."""

# Largest relative depth difference of two samples of one surface (plus the slope of a road).
DEPTH_TOLERANCE = 0.05
# A point is rejected if a sample right beside it is nearer by this fraction. It may lie within the
# silhouette of the nearer surface, whose outline is known only to the distance between samples.
SILHOUETTE_TOLERANCE = 0.25
# Velodyne HDL-64E at 10 Hz: largest vertical (in the lower block) and horizontal angle between
# samples, radians.
RING_STEP = np.deg2rad(0.53)
AZIMUTH_STEP = np.deg2rad(0.18)


@dataclass(frozen=True)
class ScanGrid:
    """Image cells in which a scan's samples are compared, about one azimuth step wide.

    Attributes:
        cell: side of a cell, pixels.
        shape: numbers of rows and columns.
        x: horizontal search radius in cells, about one and a half azimuth steps.
        y: vertical radius in cells that always contains samples, slightly over one ring step.
        y_near: vertical radius in cells that contains the nearest ring, half a ring step.
        road_slope: change of inverse depth per cell down the image on a horizontal road.
    """

    cell: int
    shape: tuple[int, int]
    x: int
    y: int
    y_near: int
    road_slope: float


@dataclass(frozen=True)
class SurfaceMap:
    """Samples of the ring nearest to each cell.

    Attributes:
        near_HW: nearest sample beside the cell; 0 where no ring passes.
        far_HW: farthest sample beside the cell.
        slack_HW: largest change of inverse depth between the cell and that ring on a sloping road.
        void_HW: whether rings pass the cell without a return.
    """

    near_HW: Map
    far_HW: Map
    slack_HW: Map
    void_HW: Bools


@dataclass(frozen=True)
class Agreement:
    """Comparison of N points with the nearest ring of another scan.

    Attributes:
        confirmed: the ring has a sample at the point's depth.
        seen_through: all samples of the ring are behind the point.
        void: rings pass the point without a return.
        offset: relative depth difference of the ring's sample closest in depth; positive if it is
            behind the point, 0 where no ring passes.
    """

    confirmed: Bools
    seen_through: Bools
    void: Bools
    offset: NDArray[np.float32]

    def take(self, index_M: NDArray[np.intp]) -> "Agreement":
        """Selects some of the points."""
        return Agreement(
            self.confirmed.take(index_M),
            self.seen_through.take(index_M),
            self.void.take(index_M),
            self.offset.take(index_M),
        )


def scan_grid(size: tuple[int, int], focal: float, camera_height: float) -> ScanGrid:
    """The grid for an image of (width, height), a focal length in pixels, and metres of height."""
    cell = max(1, round(1.25 * focal * AZIMUTH_STEP))
    return ScanGrid(
        cell=cell,
        shape=(size[1] // cell + 1, size[0] // cell + 1),
        x=max(1, round(1.5 * focal * AZIMUTH_STEP / cell)),
        y=int(np.ceil(1.1 * focal * RING_STEP / cell)),
        y_near=max(1, round(0.55 * focal * RING_STEP / cell)),
        road_slope=cell / (focal * camera_height),
    )


def cells_of(pixels_2N: Floats, grid: ScanGrid) -> Cells:
    """The cell of each pixel; arbitrary for pixels outside the image."""
    column_N, row_N = ((pixels_2N + 0.5) * (1 / grid.cell)).astype(np.intp)
    row_N *= grid.shape[1]
    row_N += column_N
    return np.asarray(row_N)


def inverse_depth_map(cells_N: Cells, inverse_N: NDArray[np.float32], grid: ScanGrid) -> Map:
    """Z-buffer: the largest inverse depth in each cell."""
    map_HW = np.zeros(grid.shape, np.float32)
    np.maximum.at(map_HW.ravel(), cells_N, inverse_N)
    return map_HW


def occluder_map(map_HW: Map, grid: ScanGrid) -> Map:
    """Inverse depth of each cell below which a point is hidden.

    A point is hidden if there are nearer samples in diagonally opposite quadrants around it, or a
    much nearer sample right beside it (:func:`silhouette_map`).
    """
    top, occupied_HW = _occupied_rows(map_HW, grid.y)
    left_HW = _largest(occupied_HW, (1, grid.x + 1), (grid.x, 0))
    right_HW = _largest(occupied_HW, (1, grid.x + 1), (0, 0))

    def sloping(values_HW: Map, reach: int) -> tuple[Map, Map]:
        """Running maxima downwards and upwards."""
        below_HW = _running_max(values_HW[::-1], reach, grid.road_slope)[::-1]
        return _running_max(values_HW, reach, grid.road_slope), below_HW

    left_above_HW, left_below_HW = sloping(left_HW, grid.y)
    right_above_HW, right_below_HW = sloping(right_HW, grid.y)
    covering_HW = np.maximum(
        np.minimum(left_above_HW, right_below_HW), np.minimum(right_above_HW, left_below_HW)
    )
    result_HW = np.zeros_like(map_HW)
    result_HW[top : top + len(occupied_HW)] = covering_HW / np.float32(1 + DEPTH_TOLERANCE)
    return np.maximum(result_HW, silhouette_map(map_HW, grid))


def silhouette_map(map_HW: Map, grid: ScanGrid) -> Map:
    """Inverse depth of each cell below which a sample right beside it is much nearer."""
    largest_HW = _largest(map_HW, (2 * grid.y_near + 1, 2 * grid.x + 1))
    largest_HW -= np.float32(grid.y_near * grid.road_slope)
    largest_HW *= np.float32(1 / (1 + SILHOUETTE_TOLERANCE))
    return largest_HW


def surface_map(map_HW: Map, grid: ScanGrid) -> SurfaceMap:
    """Samples of the ring nearest to each cell, within half a ring step above and below."""
    top, occupied_HW = _occupied_rows(map_HW, grid.y_near)
    row_near_HW = _largest(occupied_HW, (1, 2 * grid.x + 1))
    # The minimum of the samples, computed as the maximum of their negatives.
    negative_HW = np.where(occupied_HW > 0, -occupied_HW, np.float32(-1e9))
    row_far_HW = _largest(negative_HW, (1, 2 * grid.x + 1))
    near_HW, far_HW = row_near_HW.copy(), row_far_HW.copy()
    slack_HW = np.full_like(near_HW, 0.5 * grid.road_slope)
    for distance in range(1, grid.y_near + 1):
        undecided_HW = near_HW == 0
        # No ring passes an undecided cell at a smaller distance, so whole windows may be used.
        window = (2 * distance + 1, 1)
        np.copyto(near_HW, _largest(row_near_HW, window), where=undecided_HW)
        np.copyto(far_HW, _largest(row_far_HW, window), where=undecided_HW)
        np.copyto(slack_HW, (distance + 0.5) * grid.road_slope, where=undecided_HW)
    void_HW = _largest(map_HW, (2 * grid.y_near + 1, 2 * grid.x + 1)) == 0
    # The highest ring is not level, so directly below its top there may be no ring.
    void_HW[: top + grid.y_near + grid.y] = False

    def whole(part_HW: Map) -> Map:
        whole_HW = np.zeros_like(map_HW)
        whole_HW[top : top + len(part_HW)] = part_HW
        return whole_HW

    return SurfaceMap(whole(near_HW), whole(-far_HW), whole(slack_HW), void_HW)


def hidden_points(occluders_HW: Map, cells_N: Cells, inverse_N: NDArray[np.float32]) -> Bools:
    """Whether a nearer surface hides each point, given by cell and inverse depth."""
    hidden_N: Bools = occluders_HW.ravel().take(cells_N) > inverse_N
    return hidden_N


def compare_with_surface(
    surface: SurfaceMap, cells_N: Cells, inverse_N: NDArray[np.float32]
) -> Agreement:
    """Compares points, given by cell and inverse depth, with the surface that a scan sees."""
    near_N = surface.near_HW.ravel().take(cells_N)
    far_N = surface.far_HW.ravel().take(cells_N)
    tolerance_N = np.float32(DEPTH_TOLERANCE) * inverse_N + surface.slack_HW.ravel().take(cells_N)
    above_N, below_N = inverse_N - near_N, inverse_N - far_N
    closest_N = np.where(np.abs(above_N) < np.abs(below_N), above_N, below_N)
    passed_N = near_N > 0
    return Agreement(
        confirmed=passed_N & (np.abs(closest_N) <= tolerance_N),
        seen_through=passed_N & (above_N > np.float32(DEPTH_TOLERANCE) * inverse_N),
        void=surface.void_HW.ravel().take(cells_N),
        offset=np.where(passed_N, closest_N / inverse_N, np.float32(0)),
    )


def _occupied_rows(map_HW: Map, margin: int) -> tuple[int, Map]:
    """The rows that contain samples, extended by ``margin``, and the index of the first."""
    occupied = np.flatnonzero(map_HW.max(axis=1))
    if not len(occupied):
        return 0, map_HW[: 2 * margin + 1]
    top = max(int(occupied[0]) - margin, 0)
    return top, map_HW[top : int(occupied[-1]) + margin + 1]


def _running_max(values_HW: Map, reach: int, slope: float) -> Map:
    """Maximum over each value and the ``reach`` rows above it, lowered by ``slope`` per row."""
    result_HW = values_HW.copy()
    covered = 0
    while covered < reach:
        step = min(covered + 1, reach - covered)
        lowered_HW = result_HW[:-step] - np.float32(step * slope)
        np.maximum(result_HW[step:], lowered_HW, out=result_HW[step:])
        covered += step
    return result_HW


def _largest(values_HW: Map, window: tuple[int, int], anchor: tuple[int, int] = (-1, -1)) -> Map:
    """Maximum in a window of (rows, columns). The anchor (x, y) defaults to its centre."""
    return np.asarray(cv2.dilate(values_HW, np.ones(window, np.uint8), anchor=anchor), np.float32)
