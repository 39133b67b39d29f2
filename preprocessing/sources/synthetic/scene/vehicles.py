"""Bodies of cars and trucks: a side profile, extruded to the vehicle's width.

Local frame: x forward, y left, z up, origin on the road below the centre.
"""

from dataclasses import dataclass
from itertools import pairwise

from ucn.preprocessing.sources.synthetic.materials.vehicle_skins import (
    CLEARANCE,
    PROFILES,
    VehicleSkin,
)
from ucn.preprocessing.sources.synthetic.scene.surfaces import Surfaces, join, quad

OBJECT_TYPES = {
    "hatchback": "Car",
    "saloon": "Car",
    "estate": "Car",
    "van": "Van",
    "truck": "Truck",
}
"""Kind of vehicle to object type of KITTI's tracklets."""


@dataclass(frozen=True)
class VehicleMaterials:
    """Material numbers of a vehicle's parts, and number of its mask."""

    side: int
    rear: int
    front: int
    paint: int
    glass: int
    mask: int


def build_vehicle(skin: VehicleSkin, parts: VehicleMaterials) -> Surfaces:
    """Make the closed body of a vehicle in its local frame."""
    length, width, height = skin.size
    half = width / 2
    surfaces = [
        quad(
            (-length / 2, -half, 0),
            (length, 0, 0),
            (0, 0, height),
            parts.side,
            mask=parts.mask,
            two_sided=True,
        ),
        quad(
            (-length / 2, half, 0),
            (length, 0, 0),
            (0, 0, height),
            parts.side,
            mask=parts.mask,
            two_sided=True,
        ),
        quad(
            (-length / 2, -half, CLEARANCE),
            (0, width, 0),
            (length, 0, 0),
            parts.glass,
            uv=(0, 0, 0.1, 0.1),
        ),
    ]
    outline = [
        (x * length - length / 2, max(z * height, CLEARANCE)) for x, z in PROFILES[skin.kind]
    ]
    outline = [(outline[0][0], CLEARANCE), *outline[1:-1], (outline[-1][0], CLEARANCE)]
    heights = [z for _, z in PROFILES[skin.kind]]
    for index, ((x0, z0), (x1, z1)) in enumerate(pairwise(outline)):
        steep = abs(z1 - z0) > 0.6 * abs(x1 - x0)
        upper = (
            min(heights[index], heights[index + 1]) > 0.45 and max(heights[index : index + 2]) > 0.8
        )
        tall = skin.kind == "truck"
        if upper and abs(z1 - z0) > 0.1 * height and not (tall and x0 < 0):
            material, uv = parts.glass, (0.0, 0.0, 1.0, 1.0)
        elif steep and (x0 < 0) == (x1 < 0) and abs(x1 - x0) < 0.12 * length:
            low, high = min(z0, z1) / height, max(z0, z1) / height
            material = parts.rear if x0 < 0 else parts.front
            uv = (0.0, low, 1.0, high - low) if x0 < 0 else (1.0, high, -1.0, low - high)
        else:
            material, uv = parts.paint, (0.0, 0.0, 1.0, 1.0)
        surfaces.append(
            quad((x0, half, z0), (0, -width, 0), (x1 - x0, 0, z1 - z0), material, uv=uv)
        )
    return join(surfaces)
