"""PCK of parts of the points: by a quantity such as displacement or depth, and by class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Floats
from ucn.evaluation.scores.pck import pck
from ucn.geometry.rigid import transform_points


@dataclass(frozen=True)
class PartPck:
    """PCK of one part of the points.

    Attributes:
        points: how many there are, at least one.
        percent: PCK at each threshold.
    """

    points: int
    percent: tuple[float, ...]


def displacements(truth_N4: NDArray[np.floating]) -> Floats:
    """How far each true match lies from its query's coordinates, pixels: float64 [N]."""
    truth = truth_N4.astype(np.float64)
    return np.asarray(np.linalg.norm(truth[:, 2:] - truth[:, :2], axis=1), np.float64)


def triangulated_depths(rays0_N2: Floats, rays1_N2: Floats, T_1_0: Floats) -> Floats:
    """Depth in camera 0 of true matches, in the unit of the translation: float64 [N].

    The point on the ray of image 0 that lies nearest to the ray of image 1 (Hartley and Sturm,
    "Triangulation", 1997, the mid-point method, taken on the first ray).

    Args:
        rays0_N2, rays1_N2: float64 (x / z, y / z) in each camera
            (:func:`ucn.evaluation.scores.pose.normalise_points`).

    Returns:
        NaN where the rays are parallel or the point would lie behind camera 0.
    """
    ones_N1 = np.ones((len(rays0_N2), 1))
    direction0_N3 = np.hstack([rays0_N2, ones_N1])
    turned_N3 = transform_points(T_1_0, direction0_N3) - T_1_0[:3, 3]
    direction1_N3 = np.hstack([rays1_N2, ones_N1])
    normal_N3 = np.cross(turned_N3, direction1_N3)
    # depth0 * turned + t = depth1 * direction1; the cross product with direction1 removes depth1.
    moved_N3 = np.cross(direction1_N3, T_1_0[:3, 3])
    square_N = np.sum(normal_N3**2, axis=1)
    # Parallel up to the rounding of float64, relative to the lengths of both rays.
    lengths_N = np.sum(turned_N3**2, axis=1) * np.sum(direction1_N3**2, axis=1)
    crossing_N = square_N > 1e-20 * lengths_N
    depth_N = np.full(len(rays0_N2), np.nan)
    np.divide(np.sum(moved_N3 * normal_N3, axis=1), square_N, out=depth_N, where=crossing_N)
    depth_N[~(depth_N > 0)] = np.nan
    return depth_N


def pck_by_bin(
    errors_N: NDArray[np.floating],
    values_N: NDArray[np.floating],
    edges: Sequence[float],
    thresholds: Sequence[float],
) -> dict[tuple[float, float], PartPck]:
    """PCK of the points of each bin [low, high) of a quantity, the last one [low, high].

    Points outside all bins, and those whose quantity is not known (NaN), count in none.

    Args:
        values_N: the quantity, one a point.
        edges: strictly increasing, at least two; may be infinite at the ends.

    Returns:
        By (low, high), in order; bins without points are absent.

    Raises:
        ValueError: shapes that disagree, or edges that do not increase.
    """
    limits = np.asarray(edges, np.float64)
    if errors_N.shape != values_N.shape:
        raise ValueError(f"{errors_N.shape} errors of {values_N.shape} points")
    if len(limits) < 2 or not (limits[1:] > limits[:-1]).all():
        raise ValueError(f"the edges {list(edges)} of bins do not increase")
    bin_N = np.searchsorted(limits, values_N, side="right") - 1
    bin_N[values_N == limits[-1]] = len(limits) - 2
    # NaN sorts behind every edge, as does what lies above the last.
    return {
        (float(limits[index]), float(limits[index + 1])): _part(
            errors_N[bin_N == index], thresholds
        )
        for index in range(len(limits) - 1)
        if (bin_N == index).any()
    }


def pck_by_label(
    errors_N: NDArray[np.floating], labels_N: Sequence[str], thresholds: Sequence[float]
) -> dict[str, PartPck]:
    """PCK of the points of each class, in sorted order of its name.

    Raises:
        ValueError: not one label for each error.
    """
    if len(errors_N) != len(labels_N):
        raise ValueError(f"{len(labels_N)} labels of {len(errors_N)} points")
    labels = np.asarray(labels_N, object)
    return {label: _part(errors_N[labels == label], thresholds) for label in sorted(set(labels_N))}


def mean_over_parts(parts: Sequence[PartPck]) -> tuple[float, ...]:
    """Mean PCK over classes, each alike: the "mean" of the PASCAL and CUB tables.

    Raises:
        ValueError: there are none.
    """
    if not parts:
        raise ValueError("mean PCK of no classes")
    return tuple(np.mean([part.percent for part in parts], axis=0).tolist())


def _part(errors_N: NDArray[np.floating], thresholds: Sequence[float]) -> PartPck:
    return PartPck(len(errors_N), tuple(pck(errors_N, thresholds).tolist()))
