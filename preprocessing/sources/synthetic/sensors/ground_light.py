"""Shading of the ground: texture, cast shadows, and contact shadows of vehicles."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.preprocessing.sources.synthetic.materials.textures import F32, F64, sample_atlas
from ucn.preprocessing.sources.synthetic.scene.ground import HALF_WIDTH
from ucn.preprocessing.sources.synthetic.scene.lighting import drop_shadow
from ucn.preprocessing.sources.synthetic.scene.traffic import Vehicle
from ucn.preprocessing.sources.synthetic.scene.world import World

TAPS = 4
CONTACT_METRES = 0.5
"""Width of the contact shadow around a vehicle, metres."""
PENUMBRA_METRES = 0.2


def ground_colours(
    world: World, frame: int, points_M2: F32, along_x_M2: F32, along_y_M2: F32
) -> F32:
    """Colours [M, 3] of ground points.

    Args:
        world: the world.
        frame: frame number.
        points_M2: x and y in the map frame, metres.
        along_x_M2: derivative of the points over the width of a sample, metres.
        along_y_M2: derivative of the points over the height of a sample, metres.
    """
    ground = world.ground
    along = ground.along_road(points_M2)
    heading = world.road.heading(along[:, 0]).astype(np.float32)
    cosine, sine = np.cos(heading), np.sin(heading)
    size = np.array([2 * HALF_WIDTH, ground.length], np.float32)

    def turned(vector_M2: F32) -> F32:
        forward = vector_M2[:, 0] * cosine + vector_M2[:, 1] * sine
        left = vector_M2[:, 1] * cosine - vector_M2[:, 0] * sine
        return np.stack([left, forward], axis=1) / size

    uv = (along[:, ::-1] + np.array([HALF_WIDTH, -ground.start], np.float32)) / size
    colours = sample_atlas(ground.atlas, uv, turned(along_x_M2), turned(along_y_M2), TAPS)
    shadows = world.shadows
    extent = shadows.extent_2.astype(np.float32)
    at = np.clip((points_M2 - shadows.corner_2.astype(np.float32)) / extent, 0, np.float32(0.9999))
    lit = sample_atlas(shadows.atlas, at, along_x_M2 / extent, along_y_M2 / extent, 1)
    for vehicle in world.movers:
        _cast(world, vehicle, vehicle.poses_F44[frame], points_M2, lit)
    light = world.light.shadow + (1 - world.light.shadow) * lit
    for vehicle in [*world.movers, *world.parked]:
        _darken(vehicle, vehicle.poses_F44[frame], points_M2, light)
    return colours * light[:, None]


def _cast(world: World, vehicle: Vehicle, pose_44: F64, points_M2: F32, lit_M: F32) -> None:
    """Darken the points in the shadow of a vehicle's box, with a soft edge."""
    length, width, height = vehicle.size
    signs = np.array([(a, b, c) for a in (-0.5, 0.5) for b in (-0.5, 0.5) for c in (0.1, 0.95)])
    corners = signs * (length * 0.96, width * 0.96, height)
    placed = (corners[:, None, :] * pose_44[:3, :3]).sum(axis=2) + pose_44[:3, 3]
    hull = cv2.convexHull(drop_shadow(placed, world.light).astype(np.float32))[:, 0]
    near = _within(points_M2, hull.min(axis=0) - 0.2, hull.max(axis=0) + 0.2)
    points = points_M2[near]
    outside = np.full(len(near), -np.inf, np.float32)
    # The order of cv2's hull puts the outside to the right of each edge.
    for first, second in zip(hull, np.roll(hull, -1, axis=0), strict=True):
        edge = second - first
        normal = np.array([edge[1], -edge[0]]) / max(float(np.hypot(*edge)), 1e-6)
        outside = np.maximum(outside, ((points - first) * normal.astype(np.float32)).sum(axis=1))
    soft = np.clip(outside / np.float32(PENUMBRA_METRES) + np.float32(0.5), 0, 1)
    lit_M[near] = np.minimum(lit_M[near], soft)


def _darken(vehicle: Vehicle, pose_44: F64, points_M2: F32, light_M: F32) -> None:
    """Darken the points under and near a vehicle, where skylight is blocked."""
    pose = pose_44.astype(np.float32)
    half = np.array(vehicle.size[:2], np.float32) / 2
    reach = float(np.hypot(*half)) + CONTACT_METRES
    near = _within(points_M2, pose[:2, 3] - reach, pose[:2, 3] + reach)
    if not len(near):
        return
    offset = points_M2[near] - pose[:2, 3]
    local = offset[:, :1] * pose[0, :2] + offset[:, 1:] * pose[1, :2]
    outside = np.maximum(np.abs(local) - half + np.float32(0.25), 0)
    fall = np.clip(1 - np.hypot(outside[:, 0], outside[:, 1]) / np.float32(CONTACT_METRES), 0, 1)
    light_M[near] *= 1 - np.float32(0.6) * fall


def _within(points_M2: F32, low_2: F32, high_2: F32) -> NDArray[np.intp]:
    x, y = points_M2[:, 0], points_M2[:, 1]
    return np.flatnonzero((x > low_2[0]) & (x < high_2[0]) & (y > low_2[1]) & (y < high_2[1]))
