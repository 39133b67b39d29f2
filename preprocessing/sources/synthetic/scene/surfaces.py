"""Textured parallelograms, the only primitive of the worlds."""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from ucn.preprocessing.sources.synthetic.materials.textures import F32, F64

NO_MASK = -1


@dataclass(frozen=True)
class Surfaces:
    """N parallelograms ``origin + u * edge_u + v * edge_v`` for u, v in [0, 1].

    The outer normal is ``edge_u x edge_v``. Surfaces with ``two_sided_N`` are also visible from
    behind. ``uv_N4`` (u0, v0, du, dv) maps (u, v) to texture coordinates. ``detail_N2`` is the
    offset of the fine grain, in metres. ``mask_N`` is the index of a transparency mask, or -1.
    ``instance_N`` is 0 for static surfaces.
    """

    origin_N3: F64
    edge_u_N3: F64
    edge_v_N3: F64
    uv_N4: F32
    detail_N2: F32
    material_N: NDArray[np.int16]
    mask_N: NDArray[np.int16]
    instance_N: NDArray[np.int16]
    two_sided_N: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.origin_N3)

    @property
    def corners_N43(self) -> F64:
        """Corners [N, 4, 3], in order around each parallelogram."""
        return corners_of(self.origin_N3, self.edge_u_N3, self.edge_v_N3)

    @property
    def normals_N3(self) -> F64:
        """Outer unit normals."""
        normals = np.cross(self.edge_u_N3, self.edge_v_N3)
        return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True))

    def moved(self, transform_44: F64) -> "Surfaces":
        """The same surfaces after a rigid motion."""
        rotation = transform_44[:3, :3]
        return replace(
            self,
            origin_N3=rotate(self.origin_N3, rotation) + transform_44[:3, 3],
            edge_u_N3=rotate(self.edge_u_N3, rotation),
            edge_v_N3=rotate(self.edge_v_N3, rotation),
        )

    def tagged(self, instance: int) -> "Surfaces":
        """The same surfaces with another instance number."""
        return replace(self, instance_N=np.full(len(self), instance, np.int16))


def corners_of(origin_N3: F64, edge_u_N3: F64, edge_v_N3: F64) -> F64:
    """Corners [N, 4, 3] of parallelograms, in order around each."""
    far_u, far_v = origin_N3 + edge_u_N3, origin_N3 + edge_v_N3
    return np.stack([origin_N3, far_u, far_u + edge_v_N3, far_v], axis=1)


def rotate(vectors_N3: F64, rotation_33: F64) -> F64:
    """``rotation @ vector`` for each row. The order of summation does not depend on the BLAS."""
    columns = [vectors_N3[..., i, None] * rotation_33[:, i] for i in range(3)]
    return columns[0] + columns[1] + columns[2]


def join(parts: list[Surfaces]) -> Surfaces:
    """Concatenate surfaces."""
    return Surfaces(
        **{
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(Surfaces)
        }
    )


def quad(
    origin: tuple[float, float, float] | F64,
    edge_u: tuple[float, float, float] | F64,
    edge_v: tuple[float, float, float] | F64,
    material: int,
    *,
    uv: tuple[float, float, float, float] = (0, 0, 1, 1),
    detail: tuple[float, float] = (0, 0),
    mask: int = NO_MASK,
    two_sided: bool = False,
) -> Surfaces:
    """Make one static parallelogram."""
    return Surfaces(
        np.array([origin], np.float64),
        np.array([edge_u], np.float64),
        np.array([edge_v], np.float64),
        np.array([uv], np.float32),
        np.array([detail], np.float32),
        np.array([material], np.int16),
        np.array([mask], np.int16),
        np.zeros(1, np.int16),
        np.array([two_sided]),
    )


def box(
    size: tuple[float, float, float],
    base: tuple[float, float, float],
    material: int,
    rng: np.random.Generator,
    *,
    texel_metres: float = 4.0,
    mask: int = NO_MASK,
) -> Surfaces:
    """Make an upright box without a bottom face.

    Args:
        size: (length, width, height), metres.
        base: x and y of the centre, and z of the bottom.
        material: number of the material.
        rng: random number generator; each side shows a random part of the texture.
        texel_metres: size of one repeat of the texture, metres.
        mask: index of a transparency mask.
    """
    length, width, height = size
    x, y, z = base
    x0, x1, y0, y1 = x - length / 2, x + length / 2, y - width / 2, y + width / 2
    sides = [
        ((x0, y0, z), (length, 0, 0), (0, 0, height)),
        ((x1, y0, z), (0, width, 0), (0, 0, height)),
        ((x1, y1, z), (-length, 0, 0), (0, 0, height)),
        ((x0, y1, z), (0, -width, 0), (0, 0, height)),
        ((x0, y0, z + height), (length, 0, 0), (0, width, 0)),
    ]
    parts = []
    for origin, edge_u, edge_v in sides:
        extent_u, extent_v = float(np.linalg.norm(edge_u)), float(np.linalg.norm(edge_v))
        start = rng.random(2)
        uv = (start[0], start[1], extent_u / texel_metres, extent_v / texel_metres)
        parts.append(
            quad(
                origin,
                edge_u,
                edge_v,
                material,
                uv=uv,
                detail=(float(start[0] * 37), float(start[1] * 41)),
                mask=mask,
                two_sided=mask != NO_MASK,
            )
        )
    return join(parts)


def prism(
    radius: float,
    base: tuple[float, float, float],
    height: float,
    sides: int,
    material: int,
    rng: np.random.Generator,
) -> Surfaces:
    """Make an upright regular prism without end faces, for poles and trunks."""
    angles = 2 * np.pi * np.arange(sides + 1) / sides + rng.random()
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius
    start = rng.random(2)
    turns = 2 * np.pi * radius / 2.0
    return join(
        [
            quad(
                (base[0] + ring[i, 0], base[1] + ring[i, 1], base[2]),
                (ring[i + 1, 0] - ring[i, 0], ring[i + 1, 1] - ring[i, 1], 0),
                (0, 0, height),
                material,
                uv=(start[0] + i * turns / sides, start[1], turns / sides, height / 2.0),
                detail=(float(start[0] * 31 + i * 2 * np.pi * radius / sides), start[1] * 29),
            )
            for i in range(sides)
        ]
    )


def pose(x: float, y: float, z: float, yaw: float) -> F64:
    """Rigid transform [4, 4]: rotation by ``yaw`` about z, then translation."""
    transform = np.eye(4)
    transform[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    transform[:3, 3] = x, y, z
    return transform
