"""PCK of subsets of the points: by displacement, depth or class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Floats
from ucn.evaluation.scores.pck import pck
from ucn.geometry.rigid import transform_points


@dataclass(frozen=True)
class PartPck:
    """PCK of one subset of the points.

    Attributes:
        points: number of points, at least one.
        percent: PCK at each threshold.
    """

    points: int
    percent: tuple[float, ...]


def displacements(truth_N4: NDArray[np.floating]) -> Floats:
    """Displacement of each true match, pixels: float64 [N]."""
    truth = truth_N4.astype(np.float64)
    return np.asarray(np.linalg.norm(truth[:, 2:] - truth[:, :2], axis=1), np.float64)


def triangulated_depths(rays0_N2: Floats, rays1_N2: Floats, T_1_0: Floats) -> Floats:
    """Triangulated depths in camera 0, in the unit of the translation: float64 [N].

    The depth is that of the point on ray 0 nearest to ray 1: the mid-point method, taken on the
    first ray (Hartley and Sturm, "Triangulation", 1997).

    Args:
        rays0_N2, rays1_N2: float64 (x / z, y / z) in each camera
            (:func:`ucn.evaluation.scores.pose.normalise_points`).
        T_1_0: transform from camera 0 to camera 1.

    Returns:
        NaN where the rays are parallel or the point is behind camera 0.
    """
    ones_N1 = np.ones((len(rays0_N2), 1))
    direction0_N3 = np.hstack([rays0_N2, ones_N1])
    turned_N3 = transform_points(T_1_0, direction0_N3) - T_1_0[:3, 3]
    direction1_N3 = np.hstack([rays1_N2, ones_N1])
    normal_N3 = np.cross(turned_N3, direction1_N3)
    # depth0 * turned + t = depth1 * direction1. The cross product with direction1 removes depth1.
    moved_N3 = np.cross(direction1_N3, T_1_0[:3, 3])
    square_N = np.sum(normal_N3**2, axis=1)
    # Rays count as parallel within the rounding of float64, relative to their lengths.
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
    """PCK of the points in each bin [low, high) of a quantity; the last bin is [low, high].

    Points outside all bins, or with an unknown (NaN) quantity, are not counted.

    Args:
        errors_N: distances from the truth, pixels.
        values_N: the quantity, one value per point.
        edges: strictly increasing bin edges, at least two; the first and last may be infinite.
        thresholds: PCK thresholds, pixels.

    Returns:
        PCK by (low, high), in order. Empty bins are left out.

    Raises:
        ValueError: the shapes disagree, or the edges do not increase.
    """
    limits = np.asarray(edges, np.float64)
    if errors_N.shape != values_N.shape:
        raise ValueError(f"{errors_N.shape} errors of {values_N.shape} points")
    if len(limits) < 2 or not (limits[1:] > limits[:-1]).all():
        raise ValueError(f"the edges {list(edges)} of bins do not increase")
    bin_N = np.searchsorted(limits, values_N, side="right") - 1
    bin_N[values_N == limits[-1]] = len(limits) - 2
    # searchsorted places NaN, like values above the last edge, behind the last bin.
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
    """PCK of the points in each class, sorted by name.

    Raises:
        ValueError: the numbers of labels and errors differ.
    """
    if len(errors_N) != len(labels_N):
        raise ValueError(f"{len(labels_N)} labels of {len(errors_N)} points")
    names, number_N = np.unique(np.asarray(labels_N, str), return_inverse=True)
    return {
        name: _part(errors_N[number_N == number], thresholds)
        for number, name in enumerate(names.tolist())
    }


def mean_over_parts(parts: Sequence[PartPck]) -> tuple[float, ...]:
    """Mean PCK over classes with equal weights, the "mean" of the PASCAL and CUB tables.

    Raises:
        ValueError: there are no classes.
    """
    if not parts:
        raise ValueError("mean PCK of no classes")
    return tuple(np.mean([part.percent for part in parts], axis=0).tolist())


def _part(errors_N: NDArray[np.floating], thresholds: Sequence[float]) -> PartPck:
    return PartPck(len(errors_N), tuple(pck(errors_N, thresholds).tolist()))
