"""GPS/IMU packets from which pykitti reads the exact poses."""

import numpy as np

from ucn.preprocessing.sources.synthetic.materials.textures import F64
from ucn.preprocessing.sources.synthetic.scene.trajectory import FRAMES_PER_SECOND, Attitude

EARTH_RADIUS = 6378137.0
ORIGIN_LATITUDE, ORIGIN_LONGITUDE, ORIGIN_ALTITUDE = 49.011, 8.4187, 112.8
GRAVITY = 9.81

DATA_FORMAT = """\
lat:     latitude of the oxts-unit (deg)
lon:     longitude of the oxts-unit (deg)
alt:     altitude of the oxts-unit (m)
roll:    roll angle (rad), 0 = level, positive = left side up
pitch:   pitch angle (rad), 0 = level, positive = front down
yaw:     heading (rad), 0 = east, positive = counter clockwise
vn:      velocity towards north (m/s)
ve:      velocity towards east (m/s)
vf:      forward velocity (m/s)
vl:      leftward velocity (m/s)
vu:      upward velocity (m/s)
ax:      acceleration in x (m/s^2)
ay:      acceleration in y (m/s^2)
az:      acceleration in z (m/s^2)
af:      forward acceleration (m/s^2)
al:      leftward acceleration (m/s^2)
au:      upward acceleration (m/s^2)
wx:      angular rate around x (rad/s)
wy:      angular rate around y (rad/s)
wz:      angular rate around z (rad/s)
wf:      angular rate around forward axis (rad/s)
wl:      angular rate around leftward axis (rad/s)
wu:      angular rate around upward axis (rad/s)
pos_accuracy:  position accuracy (m)
vel_accuracy:  velocity accuracy (m/s)
navstat:       navigation status
numsats:       number of satellites tracked
posmode:       position mode
velmode:       velocity mode
orimode:       orientation mode
"""


def to_mercator(offset_3: F64) -> tuple[float, float, float]:
    """Latitude and longitude (degrees) and altitude (metres) of a point.

    Inverse of the Mercator projection of KITTI's devkit and pykitti: x = s R lon,
    y = s R log tan(pi/4 + lat/2), with s = cos(latitude of the first packet). The first packet must
    therefore have offset 0.

    Args:
        offset_3: offset from the origin, metres.
    """
    scale = np.cos(np.radians(ORIGIN_LATITUDE)) * EARTH_RADIUS
    northing = np.log(np.tan(np.radians(90 + ORIGIN_LATITUDE) / 2)) + offset_3[1] / scale
    latitude = np.degrees(2 * np.arctan(np.exp(northing))) - 90
    longitude = ORIGIN_LONGITUDE + np.degrees(offset_3[0] / scale)
    return float(latitude), float(longitude), float(ORIGIN_ALTITUDE + offset_3[2])


def packets(attitudes: list[Attitude]) -> list[str]:
    """Text of the packets, 30 values per frame. Rates are finite differences between frames."""
    positions = np.array([attitude.position_3 for attitude in attitudes])
    angles = np.array([(a.roll, a.pitch, a.yaw) for a in attitudes])
    angles[:, 2] = np.unwrap(angles[:, 2])
    velocity, rates = _rate(positions), _rate(angles)
    acceleration = _rate(velocity)
    lines = []
    for k, attitude in enumerate(attitudes):
        rotation = attitude.transform[:3, :3]
        latitude, longitude, altitude = to_mercator(positions[k] - positions[0])
        forward, force = velocity[k] @ rotation, acceleration[k] @ rotation + (0, 0, GRAVITY)
        values = [
            latitude,
            longitude,
            altitude,
            attitude.roll,
            attitude.pitch,
            attitude.yaw,
            velocity[k, 1],
            velocity[k, 0],
            *forward,
            *force,
            *force,
            *rates[k],
            *rates[k],
            0.02,
            0.01,
        ]
        lines.append(" ".join(repr(float(value)) for value in values) + " 4 10 5 5 6\n")
    return lines


def _rate(values_F3: F64) -> F64:
    if len(values_F3) < 2:
        return np.zeros_like(values_F3)
    return np.gradient(values_F3, 1 / FRAMES_PER_SECOND, axis=0)
