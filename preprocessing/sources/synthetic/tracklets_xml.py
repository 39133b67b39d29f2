"""Writes ``tracklet_labels.xml`` in the format of KITTI's development kit.

A pose is the centre of the box's bottom face in the Velodyne frame, and the yaw about z. The box
has its length along x, width along y and height along z.
"""

from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np

from ucn.preprocessing.sources.synthetic.materials.textures import F64
from ucn.preprocessing.sources.synthetic.scene.scenario import Scenario
from ucn.preprocessing.sources.synthetic.scene.traffic import Vehicle

LABELLED = 2
"""``state`` of a pose that was labelled, not interpolated."""
OCCLUSION_UNSET, TRUNCATION_UNSET = -1, 99
HALF_ANGLE = np.radians(60.0)
"""Vehicles within this azimuth are labelled. KITTI labels those in the image; this range is larger,
so that truncated cars are labelled, too."""
MARGIN = 10.0


@dataclass(frozen=True)
class Tracklet:
    """A vehicle over consecutive frames. ``poses_F4`` is x, y, z, yaw in the Velodyne frame."""

    object_type: str
    size: tuple[float, float, float]
    first_frame: int
    poses_F4: F64


def scenario_tracklets(scenario: Scenario) -> list[Tracklet]:
    """Make tracklets of moving and parked vehicles.

    Each uninterrupted sequence of frames in view is one tracklet.
    """
    velo_map = [np.linalg.inv(scenario.T_map_velo(k)) for k in range(scenario.spec.frames)]
    tracklets = []
    for vehicle in [*scenario.movers, *scenario.parked]:
        poses_F4 = _in_scanner(vehicle, velo_map)
        distance = np.hypot(poses_F4[:, 0], poses_F4[:, 1])
        angle = np.abs(np.arctan2(poses_F4[:, 1], poses_F4[:, 0]))
        near = distance < vehicle.size[0] + 2
        seen = (distance < scenario.spec.max_range + MARGIN) & ((angle < HALF_ANGLE) | near)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(np.int8), [0]])))
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            tracklets.append(
                Tracklet(vehicle.object_type, vehicle.size, int(first), poses_F4[first:end])
            )
    return tracklets


def tracklets_text(tracklets: list[Tracklet]) -> str:
    """Text of the file, in the Boost archive format of KITTI's tools."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>',
        "<!DOCTYPE boost_serialization>",
        '<boost_serialization signature="serialization::archive" version="9">',
        '<tracklets class_id="0" tracking_level="0" version="0">',
        f"\t<count>{len(tracklets)}</count>",
        "\t<item_version>1</item_version>",
    ]
    for index, tracklet in enumerate(tracklets):
        lines += _item(tracklet, is_first=index == 0)
    lines += ["</tracklets>", "</boost_serialization>"]
    return "\n".join(lines) + "\n"


def _in_scanner(vehicle: Vehicle, velo_map: list[F64]) -> F64:
    poses = []
    for T_map_vehicle, T_velo_map in zip(vehicle.poses_F44, velo_map, strict=True):
        T = T_velo_map @ T_map_vehicle
        poses.append([*T[:3, 3], np.arctan2(T[1, 0], T[0, 0])])
    return np.array(poses)


def _item(tracklet: Tracklet, *, is_first: bool) -> list[str]:
    """XML of one tracklet. Boost numbers each class at its first occurrence."""
    length, width, height = tracklet.size
    item = '<item class_id="1" tracking_level="0" version="1">' if is_first else "<item>"
    poses = '<poses class_id="2" tracking_level="0" version="0">' if is_first else "<poses>"
    lines = [
        f"\t{item}",
        f"\t\t<objectType>{escape(tracklet.object_type)}</objectType>",
        f"\t\t<h>{height!r}</h>",
        f"\t\t<w>{width!r}</w>",
        f"\t\t<l>{length!r}</l>",
        f"\t\t<first_frame>{tracklet.first_frame}</first_frame>",
        f"\t\t{poses}",
        f"\t\t\t<count>{len(tracklet.poses_F4)}</count>",
        "\t\t\t<item_version>2</item_version>",
    ]
    for index, (x, y, z, yaw) in enumerate(tracklet.poses_F4.tolist()):
        numbered = is_first and index == 0
        head = '<item class_id="3" tracking_level="0" version="2">' if numbered else "<item>"
        values = {
            "tx": x,
            "ty": y,
            "tz": z,
            "rx": 0,
            "ry": 0,
            "rz": yaw,
            "state": LABELLED,
            "occlusion": OCCLUSION_UNSET,
            "occlusion_kf": 0,
            "truncation": TRUNCATION_UNSET,
            "amt_occlusion": 0,
            "amt_occlusion_kf": -1,
            "amt_border_l": 0,
            "amt_border_r": 0,
            "amt_border_kf": -1,
        }
        lines.append(f"\t\t\t{head}")
        lines += [f"\t\t\t\t<{name}>{value!r}</{name}>" for name, value in values.items()]
        lines.append("\t\t\t</item>")
    return [*lines, "\t\t</poses>", "\t\t<finished>1</finished>", "\t</item>"]
