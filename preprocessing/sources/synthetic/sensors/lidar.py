"""A 64-beam spinning LiDAR like the HDL-64E, without motion distortion."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.preprocessing.sources.synthetic.materials.textures import F32, F64
from ucn.preprocessing.sources.synthetic.scene.surfaces import corners_of
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

COLUMNS_PER_TURN = 2000
"""Measurements per turn of each beam, 0.18 degrees apart."""
NEAREST = 1.5


def beam_elevations() -> F64:
    """Elevations [64] in radians, from top to bottom.

    From the HDL-64E's data sheet: 32 beams from +2 to -8.33 degrees, 1/3 degree apart, and 32 beams
    from -8.83 to -24.33 degrees, 1/2 degree apart.
    """
    upper = 2 - np.arange(32) / 3
    lower = -8.83 - np.arange(32) / 2
    return np.asarray(np.radians(np.concatenate([upper, lower])))


def azimuths(degrees: float) -> F64:
    """Ascending azimuths in radians over ``degrees``, centred on straight ahead."""
    step = 2 * np.pi / COLUMNS_PER_TURN
    half = round(np.radians(degrees) / step / 2)
    return (np.arange(-half, half) + 0.5) * step


@dataclass(frozen=True)
class Echoes:
    """Exact hits: rays of horizontal length 1, range, cosine of the incidence angle, albedo."""

    rays_N3: F64
    distance_N: F64
    cosine_N: F64
    albedo_N: F64


def scan(world: World, frame: int) -> F32:
    """Simulate a scan: float32 [N, 4], x, y, z in the Velodyne frame in metres, reflectance 0..1.

    Points are sorted by beam from top to bottom, then by azimuth.
    """
    spec = world.spec
    echoes = _echoes(world, frame)
    count = len(echoes.distance_N)
    rng = np.random.default_rng([spec.seed, 102, frame])
    spread = 1 + 0.25 * rng.standard_normal(count)
    reflectance = echoes.albedo_N * (0.35 + 0.65 * echoes.cosine_N) * spread
    reflectance = np.clip(reflectance, 0, 0.99)
    kept = (echoes.distance_N > NEAREST) & (echoes.distance_N < spec.max_range)
    lost = _lost(spec.dropout, reflectance, echoes.distance_N, echoes.cosine_N)
    kept &= rng.random(count) >= lost
    noisy = 1 + spec.range_noise * rng.standard_normal(count) / echoes.distance_N
    length = np.sqrt((echoes.rays_N3**2).sum(axis=1))
    points = echoes.rays_N3 * (echoes.distance_N / length * noisy)[:, None]
    return np.concatenate([points, reflectance[:, None]], axis=1)[kept].astype(np.float32)


def _echoes(world: World, frame: int) -> Echoes:
    surfaces, spec = world.surfaces(frame), world.spec
    origin, edge_u, edge_v = in_sensor(surfaces, np.linalg.inv(world.T_map_velo(frame)))
    coefficients = ray_coefficients(origin, edge_u, edge_v)
    azimuth, elevation = azimuths(spec.scan_degrees), beam_elevations()
    columns = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros_like(azimuth)], axis=1)
    rows = np.zeros((len(elevation), 3))
    rows[:, 2] = np.tan(elevation)
    facing = front_facing(origin, edge_u, edge_v, surfaces.two_sided_N)
    bounds = _scan_bounds(origin, edge_u, edge_v, facing, azimuth, len(elevation), spec.max_range)
    grid = RayGrid(rows, columns)
    index = trace(grid, coefficients, bounds, surfaces.mask_N, world.masks)

    ring, column = np.nonzero(index != NOTHING)
    hit = index[ring, column]
    rays = rows[ring] + columns[column]
    length = np.sqrt((rays**2).sum(axis=1))
    normals = np.cross(edge_u[hit], edge_v[hit])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    per_material = np.array([material.reflectance for material in world.materials])
    return Echoes(
        rays,
        length / (coefficients[hit, 2] * rays).sum(axis=1),
        np.abs((normals * rays).sum(axis=1)) / length,
        per_material[surfaces.material_N[hit]],
    )


def _lost(dropout: float, reflectance_N: F64, distance_N: F64, cosine_N: F64) -> F64:
    """Probability of a lost return. It is higher on dark, distant and grazing surfaces."""
    weak = np.clip(1 - reflectance_N / 0.15, 0, 1) * np.clip(distance_N / 40, 0.2, 1)
    grazing = np.clip(1 - cosine_N / 0.05, 0, 1)
    return np.asarray(np.clip(dropout * (1 + 8 * weak + 6 * grazing), 0, 1))


def _scan_bounds(
    origin_N3: F64,
    edge_u_N3: F64,
    edge_v_N3: F64,
    facing_N: NDArray[np.bool_],
    azimuth_W: F64,
    beams: int,
    max_range: float,
) -> Bounds:
    """Bounds of each surface: all beams, and the columns between the azimuths of its corners."""
    corners = corners_of(origin_N3, edge_u_N3, edge_v_N3)
    angles = np.arctan2(corners[..., 1], corners[..., 0])
    low, high = angles.min(axis=1), angles.max(axis=1)
    column0 = np.searchsorted(azimuth_W, low - 1e-9)
    column1 = np.searchsorted(azimuth_W, high + 1e-9)
    # A surface that spans more than half a turn crosses azimuth 180 degrees, or lies above or below
    # the LiDAR. All columns may hit it.
    wraps = high - low >= np.pi
    column0, column1 = np.where(wraps, 0, column0), np.where(wraps, len(azimuth_W), column1)
    extent = np.linalg.norm(edge_u_N3, axis=1) + np.linalg.norm(edge_v_N3, axis=1)
    near = np.linalg.norm(origin_N3, axis=1) - extent < max_range
    count = len(origin_N3)
    return Bounds(
        np.zeros(count, np.intp),
        np.where(facing_N & near, beams, 0).astype(np.intp),
        column0,
        column1,
    )
