"""A 64-beam spinning scanner in the manner of the HDL-64E, frozen at the frame's instant."""

import numpy as np
from numpy.typing import NDArray

from preprocessing.sources.synthetic.raycast import (
    NOTHING,
    Bounds,
    RayGrid,
    front_facing,
    in_sensor,
    ray_coefficients,
    trace,
)
from preprocessing.sources.synthetic.textures import F32, F64
from preprocessing.sources.synthetic.world import World

COLUMNS_PER_TURN = 2000
"""0.18 degrees apart."""
NEAREST = 1.5


def beam_elevations() -> F64:
    """Elevations [64] in radians, top first: 32 beams 1/3 degree apart, 32 beams 1/2 apart.

    After the HDL-64E's data sheet: +2 to -8.33 and -8.83 to -24.33 degrees.
    """
    upper = 2 - np.arange(32) / 3
    lower = -8.83 - np.arange(32) / 2
    return np.asarray(np.radians(np.concatenate([upper, lower])))


def azimuths(degrees: float) -> F64:
    """Azimuths in radians of one turn, or of the ``degrees`` around straight ahead, ascending."""
    step = 2 * np.pi / COLUMNS_PER_TURN
    half = round(np.radians(degrees) / step / 2)
    return (np.arange(-half, half) + 0.5) * step


def scan(world: World, frame: int) -> F32:
    """Points float32 [N, 4]: x, y, z in metres in the scanner's frame, reflectance 0..1.

    Rows follow the beams from top to bottom, each beam by azimuth.
    """
    spec = world.spec
    surfaces = world.surfaces(frame)
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
    horizontal = 1 / (coefficients[hit, 2] * rays).sum(axis=1)
    stretch = np.sqrt((rays**2).sum(axis=1))
    distance = horizontal * stretch
    normals = np.cross(edge_u[hit], edge_v[hit])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    cosine = np.abs((normals * rays).sum(axis=1)) / stretch

    rng = np.random.default_rng([spec.seed, 102, frame])
    per_material = np.array([material.reflectance for material in world.materials])
    albedo = per_material[surfaces.material_N[hit]]
    spread = rng.standard_normal(len(hit))
    reflectance = np.clip(albedo * (0.35 + 0.65 * cosine) * (1 + 0.25 * spread), 0, 0.99)
    kept = (distance > NEAREST) & (distance < spec.max_range)
    kept &= rng.random(len(hit)) > _lost(spec.dropout, reflectance, distance, cosine)
    noisy = distance + spec.range_noise * rng.standard_normal(len(hit))
    points = rays * (noisy / stretch)[:, None]
    return np.asarray(
        np.concatenate([points, reflectance[:, None]], axis=1)[kept].astype(np.float32)
    )


def _lost(dropout: float, reflectance_N: F64, distance_N: F64, cosine_N: F64) -> F64:
    """Probability that no return comes back; rises on dark, far and grazing surfaces."""
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
    """Columns between the azimuths of each surface's corners; all columns if it spans the back."""
    corners = np.stack(
        [
            origin_N3,
            origin_N3 + edge_u_N3,
            origin_N3 + edge_u_N3 + edge_v_N3,
            origin_N3 + edge_v_N3,
        ],
        axis=1,
    )
    angles = np.arctan2(corners[..., 1], corners[..., 0])
    low, high = angles.min(axis=1), angles.max(axis=1)
    column0 = np.searchsorted(azimuth_W, low - 1e-9)
    column1 = np.searchsorted(azimuth_W, high + 1e-9)
    # Spanning more than half a turn: it crosses the back, or lies above or below the scanner.
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
