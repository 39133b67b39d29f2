"""Renders colour images: exact visibility, filtered textures, and light.

A pixel that shows a single surface is shaded once over its whole area. A pixel on an edge is the
mean of 2 x 2 samples. Colours are gamma-coded, and light multiplies them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.preprocessing.sources.synthetic.materials.textures import F32, read_pixels, sample_atlas
from ucn.preprocessing.sources.synthetic.scene.lighting import SKY_BOTTOM_DEGREES, SKY_TOP_DEGREES
from ucn.preprocessing.sources.synthetic.scene.world import GROUND_MATERIAL, GROUND_REACH, World
from ucn.preprocessing.sources.synthetic.sensors.ground_light import ground_colours
from ucn.preprocessing.sources.synthetic.sensors.raycast import NOTHING
from ucn.preprocessing.sources.synthetic.sensors.view import VisibleSurfaces, look

GRAIN = ((2.7, 1.3), (19.0, 0.6))
"""Size in metres and strength of the two scales of fine grain."""
MATT = 0.2
"""Materials with at most this grain are rendered without it."""


@dataclass(frozen=True)
class Samples:
    """Rays (x, y, 1) in the camera's frame, surfaces that they hit, and sample sizes in pixels."""

    xy_M2: F32
    index_M: NDArray[np.int32]
    extent_M: F32


@dataclass(frozen=True)
class Shader:
    """Float32 tables of the N surfaces at one frame, pixel size, and rotation of the camera."""

    world: World
    frame: int
    coefficients_N33: F32
    brightness_N: F32
    normals_N3: F32
    lengths_N2: F32
    uv_N4: F32
    detail_N2: F32
    pixel_2: F32
    rotation_33: F32


def render_radiance(world: World, frame: int, camera: int) -> F32:
    """Render gamma-coded radiance [H, W, 3]; sunlit white is 1."""
    view = look(world, frame, camera, 2)
    samples, whole, edge = _choose_samples(view)
    shader = _make_shader(world, frame, camera, view)
    material = np.full(samples.index_M.shape, len(world.materials), np.int16)
    solid = samples.index_M != NOTHING
    material[solid] = view.surfaces.material_N[samples.index_M[solid]]
    order = np.argsort(material, kind="stable")
    starts = np.searchsorted(material[order], np.arange(len(world.materials) + 1))
    colours = np.empty((len(material), 3), np.float32)
    for number in np.unique(material[solid]):
        where = order[starts[number] : starts[number + 1]]
        colours[where] = _shade(shader, samples, where, int(number))
    sky = order[starts[-1] :]
    colours[sky] = _look_up_sky(world, _to_map(samples.xy_M2[sky], shader.rotation_33))
    image = np.empty((world.spec.height * world.spec.width, 3), np.float32)
    image[whole] = colours[: len(whole)]
    image[edge] = colours[len(whole) :].reshape(-1, 4, 3).mean(axis=1)
    return image.reshape(world.spec.height, world.spec.width, 3)


def _choose_samples(view: VisibleSurfaces) -> tuple[Samples, NDArray[np.intp], NDArray[np.intp]]:
    """Choose the samples of all pixels.

    Returns:
        The samples (one for each whole pixel, then four for each edge pixel), the indices of the
        whole pixels, and the indices of the edge pixels.
    """
    height, width = view.index_HW.shape
    blocks = view.index_HW.reshape(height // 2, 2, width // 2, 2).transpose(0, 2, 1, 3)
    quarters = blocks.reshape(-1, 4)
    same = (quarters == quarters[:, :1]).all(axis=1)
    whole, edge = np.flatnonzero(same), np.flatnonzero(~same)
    x = view.grid.columns_W3[:, 0].reshape(-1, 2)
    y = view.grid.rows_H3[:, 1].reshape(-1, 2)
    row, column = np.divmod(whole, width // 2)
    centres = np.stack([x.mean(axis=1)[column], y.mean(axis=1)[row]], axis=1)
    row, column = np.divmod(edge, width // 2)
    corners = np.stack(
        [x[column][:, [0, 1, 0, 1]].ravel(), y[row][:, [0, 0, 1, 1]].ravel()], axis=1
    )
    samples = Samples(
        np.concatenate([centres, corners]).astype(np.float32),
        np.concatenate([quarters[whole, 0], quarters[edge].ravel()]),
        np.repeat(np.array([1, 0.5], np.float32), [len(whole), 4 * len(edge)]),
    )
    return samples, whole, edge


def _make_shader(world: World, frame: int, camera: int, view: VisibleSurfaces) -> Shader:
    surfaces = view.surfaces
    outer = surfaces.normals_N3
    # Normals of two-sided surfaces point towards the camera.
    seen = world.T_map_cam(frame, camera)[:3, 3] - surfaces.origin_N3
    normals = np.where((seen * outer).sum(axis=1, keepdims=True) < 0, -outer, outer)
    lengths = [np.linalg.norm(edge, axis=1) for edge in (surfaces.edge_u_N3, surfaces.edge_v_N3)]
    intrinsics = world.rig.intrinsics(camera)
    return Shader(
        world,
        frame,
        view.coefficients_N33.astype(np.float32),
        world.light.shading(normals),
        normals.astype(np.float32),
        np.stack(lengths, axis=1).astype(np.float32),
        surfaces.uv_N4,
        surfaces.detail_N2,
        (1 / intrinsics[[0, 1], [0, 1]]).astype(np.float32),
        world.T_map_cam(frame, camera)[:3, :3].astype(np.float32),
    )


def _shade(shader: Shader, samples: Samples, where_M: NDArray[np.intp], number: int) -> F32:
    """Colours [M, 3] of samples that all show material ``number``."""
    world, material = shader.world, shader.world.materials[number]
    index, xy = samples.index_M[where_M], samples.xy_M2[where_M]
    c = shader.coefficients_N33.take(index, axis=0)
    uvw = c[:, :, 0] * xy[:, :1] + c[:, :, 1] * xy[:, 1:] + c[:, :, 2]
    depth = 1 / uvw[:, 2:]
    uv = uvw[:, :2] * depth
    step = depth * samples.extent_M[where_M][:, None]
    along_x = (c[:, :2, 0] - uv * c[:, 2:, 0]) * (step * shader.pixel_2[0])
    along_y = (c[:, :2, 1] - uv * c[:, 2:, 1]) * (step * shader.pixel_2[1])
    lengths = shader.lengths_N2.take(index, axis=0)
    metres, metres_x, metres_y = uv * lengths, along_x * lengths, along_y * lengths
    if number == GROUND_MATERIAL:
        points = metres - np.float32(GROUND_REACH)
        colours = ground_colours(world, shader.frame, points, metres_x, metres_y)
    else:
        tiling = shader.uv_N4.take(index, axis=0)
        start, span = tiling[:, :2], tiling[:, 2:]
        colours = sample_atlas(
            material.atlas, start + uv * span, along_x * span, along_y * span, material.taps
        )
        colours *= shader.brightness_N.take(index)[:, None]
    if material.grain > MATT:
        at = metres + shader.detail_N2.take(index, axis=0)
        for size, strength in GRAIN:
            scale = np.float32(1 / size)
            value = sample_atlas(world.grain, at * scale, metres_x * scale, metres_y * scale, 1)
            colours *= (
                1 + np.float32(strength * material.grain) * (value - np.float32(0.5))[:, None]
            )
    if material.gloss:
        colours = _mirror_sky(shader, index, xy, material.gloss, colours)
    distance = depth * np.sqrt(1 + (xy**2).sum(axis=1, keepdims=True))
    clear = np.exp(-distance / np.float32(world.light.haze_metres))
    return np.asarray(colours * clear + world.light.haze_3 * (1 - clear))


def _mirror_sky(
    shader: Shader, index_M: NDArray[np.int32], xy_M2: F32, gloss: float, colours_M3: F32
) -> F32:
    """Add the reflection of the sky, which is stronger at grazing angles (after Schlick)."""
    directions = _to_map(xy_M2, shader.rotation_33)
    normals = shader.normals_N3.take(index_M, axis=0)
    facing = (directions * normals).sum(axis=1)
    mirrored = directions - 2 * facing[:, None] * normals
    share = np.float32(gloss) * (np.float32(0.35) + np.float32(0.65) * (1 - np.abs(facing)) ** 3)
    return np.asarray(
        colours_M3 + share[:, None] * (_look_up_sky(shader.world, mirrored) - colours_M3)
    )


def _to_map(xy_M2: F32, rotation_33: F32) -> F32:
    """Unit directions [M, 3] of rays (x, y, 1) in the map frame."""
    directions = (
        xy_M2[:, :1] * rotation_33[:, 0] + xy_M2[:, 1:] * rotation_33[:, 1] + rotation_33[:, 2]
    )
    return np.asarray(directions / np.sqrt((directions**2).sum(axis=1, keepdims=True)))


def _look_up_sky(world: World, directions_M3: F32) -> F32:
    height, width = world.sky.shape[:2]
    azimuth = np.arctan2(directions_M3[:, 1], directions_M3[:, 0])
    elevation = np.degrees(np.arcsin(np.clip(directions_M3[:, 2], -1, 1)))
    x = (azimuth / np.float32(2 * np.pi) + np.float32(0.5)) * np.float32(width - 1)
    y = (SKY_TOP_DEGREES - elevation) / (SKY_TOP_DEGREES - SKY_BOTTOM_DEGREES) * (height - 1)
    return read_pixels(world.sky, x, y.astype(np.float32)) * np.float32(1 / 255)
