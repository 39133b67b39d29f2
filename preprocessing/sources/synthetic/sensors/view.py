"""Exact visibility, depth and instances for a pinhole camera."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.preprocessing.sources.synthetic.materials.textures import F32, F64
from ucn.preprocessing.sources.synthetic.scene.surfaces import Surfaces, corners_of
from ucn.preprocessing.sources.synthetic.scene.world import World
from ucn.preprocessing.sources.synthetic.sensors.raycast import (
    NOTHING,
    Bounds,
    RayGrid,
    front_facing,
    in_sensor,
    ray_coefficients,
    trace,
)

NEAR = 0.05


@dataclass(frozen=True)
class VisibleSurfaces:
    """Surfaces, their coefficients in the camera's frame, and the nearest surface of each ray."""

    surfaces: Surfaces
    coefficients_N33: F64
    grid: RayGrid
    index_HW: NDArray[np.int32]


def look(world: World, frame: int, camera: int, samples: int) -> VisibleSurfaces:
    """Compute the visible surfaces, with ``samples`` x ``samples`` rays per pixel."""
    surfaces = world.surfaces(frame)
    intrinsics = world.rig.intrinsics(camera)
    origin, edge_u, edge_v = in_sensor(surfaces, np.linalg.inv(world.T_map_cam(frame, camera)))
    coefficients = ray_coefficients(origin, edge_u, edge_v)
    grid = camera_grid(intrinsics, world.spec.width, world.spec.height, samples)
    facing = front_facing(origin, edge_u, edge_v, surfaces.two_sided_N)
    bounds = _image_bounds(origin, edge_u, edge_v, facing, grid)
    index = trace(grid, coefficients, bounds, surfaces.mask_N, world.masks)
    return VisibleSurfaces(surfaces, coefficients, grid, index)


def camera_grid(intrinsics_33: F64, width: int, height: int, samples: int) -> RayGrid:
    """Rays with z = 1 through the centres of ``samples`` x ``samples`` subpixels per pixel."""
    x = (np.arange(width * samples) + 0.5) / samples - 0.5
    y = (np.arange(height * samples) + 0.5) / samples - 0.5
    columns, rows = np.zeros((len(x), 3)), np.zeros((len(y), 3))
    columns[:, 0] = (x - intrinsics_33[0, 2]) / intrinsics_33[0, 0]
    rows[:, 1] = (y - intrinsics_33[1, 2]) / intrinsics_33[1, 1]
    rows[:, 2] = 1
    return RayGrid(rows, columns)


def depth_and_instances(world: World, frame: int, camera: int) -> tuple[F32, NDArray[np.uint8]]:
    """Depth and instance numbers [H, W] at pixel centres.

    Depth is along the camera's z axis, in metres, inf in the sky. Static surfaces have instance 0.
    """
    view = look(world, frame, camera, 1)
    rows, columns = np.nonzero(view.index_HW != NOTHING)
    index = view.index_HW[rows, columns]
    rays = view.grid.rows_H3[rows] + view.grid.columns_W3[columns]
    depth = np.full(view.index_HW.shape, np.inf, np.float32)
    depth[rows, columns] = 1 / (view.coefficients_N33[index, 2] * rays).sum(axis=1)
    instances = np.zeros(view.index_HW.shape, np.uint8)
    instances[rows, columns] = view.surfaces.instance_N[index]
    return depth, instances


def _image_bounds(
    origin_N3: F64, edge_u_N3: F64, edge_v_N3: F64, facing_N: NDArray[np.bool_], grid: RayGrid
) -> Bounds:
    """Rows and columns that the part of each surface in front of the camera covers."""
    corners = corners_of(origin_N3, edge_u_N3, edge_v_N3)
    following = np.roll(corners, -1, axis=1)
    rise = following[..., 2] - corners[..., 2]
    share = (NEAR - corners[..., 2]) / np.where(np.abs(rise) < 1e-12, 1e-12, rise)
    cuts = (share > 0) & (share < 1)
    crossing = corners + np.where(cuts, share, 0)[..., None] * (following - corners)
    points = np.concatenate([corners, crossing], axis=1)
    valid = np.concatenate([corners[..., 2] >= NEAR, cuts], axis=1)
    depth = np.maximum(points[..., 2], NEAR * 0.99)
    x, y = points[..., 0] / depth, points[..., 1] / depth
    low_x, high_x = np.where(valid, x, np.inf).min(1), np.where(valid, x, -np.inf).max(1)
    low_y, high_y = np.where(valid, y, np.inf).min(1), np.where(valid, y, -np.inf).max(1)
    seen = valid.any(axis=1) & facing_N
    column0 = np.searchsorted(grid.columns_W3[:, 0], low_x - 1e-9)
    column1 = np.searchsorted(grid.columns_W3[:, 0], high_x + 1e-9)
    row0 = np.searchsorted(grid.rows_H3[:, 1], low_y - 1e-9)
    row1 = np.searchsorted(grid.rows_H3[:, 1], high_y + 1e-9)
    return Bounds(row0, np.where(seen, row1, row0), column0, column1)
