"""Exact visibility of parallelograms along a grid of rays.

Rays start at the origin. Ray (r, c) has direction ``rows[r] + columns[c]``. This describes two
sensors:

- A pinhole camera has columns (x, 0, 0) and rows (0, y, 1). Distance is the depth along z.
- A spinning LiDAR has columns (cos, sin, 0) and rows (0, 0, tan elevation). Distance is the
  horizontal range.

A ray ``t d`` intersects ``o + u U + v V`` where ``(u/t, v/t, 1/t) = -[U V -o]^-1 d``, up to signs.
These are three linear functions of d, and therefore sums of a row term and a column term.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.preprocessing.sources.synthetic.materials.textures import F32, F64
from ucn.preprocessing.sources.synthetic.scene.surfaces import NO_MASK, Surfaces, rotate

NOTHING = -1


@dataclass(frozen=True)
class RayGrid:
    """Ray directions ``rows_H3[r] + columns_W3[c]`` in the sensor's frame."""

    rows_H3: F64
    columns_W3: F64


@dataclass(frozen=True)
class Bounds:
    """Half-open ranges of rows and columns that may hit each surface; empty if none can."""

    row0_N: NDArray[np.intp]
    row1_N: NDArray[np.intp]
    column0_N: NDArray[np.intp]
    column1_N: NDArray[np.intp]


def in_sensor(surfaces: Surfaces, sensor_map_44: F64) -> tuple[F64, F64, F64]:
    """Origins, edges u and edges v of surfaces in the sensor's frame."""
    rotation = sensor_map_44[:3, :3]
    return (
        rotate(surfaces.origin_N3, rotation) + sensor_map_44[:3, 3],
        rotate(surfaces.edge_u_N3, rotation),
        rotate(surfaces.edge_v_N3, rotation),
    )


def ray_coefficients(origin_N3: F64, edge_u_N3: F64, edge_v_N3: F64) -> F64:
    """Coefficients [N, 3, 3] whose products with d are (u/t, v/t, 1/t).

    They are zero for surfaces seen edge-on.
    """
    # Solves t d = o + u U + v V for (u/t, v/t, 1/t).
    normal = np.cross(edge_u_N3, edge_v_N3)
    volume = (normal * origin_N3).sum(axis=1)
    rows = np.stack([np.cross(edge_v_N3, origin_N3), np.cross(origin_N3, edge_u_N3), normal], 1)
    visible = np.abs(volume) > 1e-9
    return np.where(
        visible[:, None, None], rows / np.where(visible, volume, 1.0)[:, None, None], 0.0
    )


def trace(
    grid: RayGrid,
    coefficients_N33: F64,
    bounds: Bounds,
    mask_N: NDArray[np.int16],
    masks: list[NDArray[np.bool_]],
) -> NDArray[np.int32]:
    """Index [H, W] of the nearest surface along each ray; -1 for none."""
    shape = len(grid.rows_H3), len(grid.columns_W3)
    nearest = np.zeros(shape, np.float32)
    index = np.full(shape, NOTHING, np.int32)
    seen = np.flatnonzero((bounds.row1_N > bounds.row0_N) & (bounds.column1_N > bounds.column0_N))
    coefficients = coefficients_N33.astype(np.float32)
    all_rows, all_columns = (
        np.ascontiguousarray(vectors.T, np.float32) for vectors in (grid.rows_H3, grid.columns_W3)
    )
    for surface in seen:
        rows = slice(bounds.row0_N[surface], bounds.row1_N[surface])
        columns = slice(bounds.column0_N[surface], bounds.column1_N[surface])
        row_terms = _terms(coefficients[surface], all_rows[:, rows])
        column_terms = _terms(coefficients[surface], all_columns[:, columns])
        u, v, inverse = row_terms[:, :, None] + column_terms[:, None, :]
        window = nearest[rows, columns]
        hit = (inverse > window) & (u >= 0) & (v >= 0) & (u <= inverse) & (v <= inverse)
        if mask_N[surface] != NO_MASK:
            at = np.nonzero(hit)
            solid = read_mask(masks[mask_N[surface]], u[at] / inverse[at], v[at] / inverse[at])
            hit[at] = solid
        np.copyto(window, inverse, where=hit)
        np.copyto(index[rows, columns], np.int32(surface), where=hit)
    return index


def read_mask(mask: NDArray[np.bool_], u_N: F32, v_N: F32) -> NDArray[np.bool_]:
    """Whether a mask is opaque at (u, v). Row 0 of the mask is at v = 0."""
    height, width = mask.shape
    x = np.clip((u_N * width).astype(np.intp), 0, width - 1)
    y = np.clip((v_N * height).astype(np.intp), 0, height - 1)
    return np.asarray(mask[y, x])


def front_facing(
    origin_N3: F64, edge_u_N3: F64, edge_v_N3: F64, two_sided_N: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Mask of the surfaces that are two-sided or whose outer side faces the sensor."""
    towards = (np.cross(edge_u_N3, edge_v_N3) * origin_N3).sum(axis=1) < 0
    return np.asarray(two_sided_N | towards)


def _terms(coefficients_33: F32, vectors_3M: F32) -> F32:
    """Products [3, M], summed in a fixed order."""
    return np.asarray(
        coefficients_33[:, 0, None] * vectors_3M[0]
        + coefficients_33[:, 1, None] * vectors_3M[1]
        + coefficients_33[:, 2, None] * vectors_3M[2]
    )
