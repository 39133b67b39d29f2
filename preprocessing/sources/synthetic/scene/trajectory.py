"""Centreline of the road, and motion of the car along it.

In the map frame, z points up, the road is at z = 0, and arc length 0 is at the origin.
"""

from dataclasses import dataclass

import numpy as np

from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.materials.textures import F64

STEP = 0.25
"""Distance between samples of the centreline, metres."""
BEHIND, AHEAD = 60.0, 170.0
"""Length of road behind the first frame and ahead of the last frame, metres."""
IMU_HEIGHT = 0.93
FRAMES_PER_SECOND = 10.0


@dataclass(frozen=True)
class Road:
    """Centreline of the car's lane, sampled every ``STEP`` metres from arc length ``start``."""

    start: float
    position_N2: F64
    heading_N: F64

    @property
    def end(self) -> float:
        """Arc length of the last sample."""
        return self.start + STEP * (len(self.heading_N) - 1)

    def heading(self, s: F64 | float) -> F64:
        """Heading in radians at arc length ``s``."""
        at = (np.asarray(s, np.float64) - self.start) / STEP
        return np.interp(at, np.arange(len(self.heading_N)), self.heading_N)

    def point(self, s: F64 | float, lateral: F64 | float = 0.0) -> F64:
        """Map position [..., 2] at arc length ``s``, offset by ``lateral`` metres to the left."""
        at = (np.asarray(s, np.float64) - self.start) / STEP
        samples = np.arange(len(self.heading_N))
        x = np.interp(at, samples, self.position_N2[:, 0])
        y = np.interp(at, samples, self.position_N2[:, 1])
        heading = self.heading(s)
        return np.stack([x - lateral * np.sin(heading), y + lateral * np.cos(heading)], axis=-1)


@dataclass(frozen=True)
class Wave:
    """A sum of sinusoids."""

    amplitude_K: F64
    frequency_K: F64
    phase_K: F64

    def __call__(self, x: F64) -> F64:
        """Values at ``x``."""
        angles = np.asarray(x, np.float64)[..., None] * self.frequency_K + self.phase_K
        return np.asarray((self.amplitude_K * np.sin(angles)).sum(axis=-1))


def random_wave(
    rng: np.random.Generator, amplitude: float, shortest: float, longest: float
) -> Wave:
    """Make a smooth random function.

    Args:
        rng: random number generator.
        amplitude: standard deviation of the values.
        shortest: shortest period.
        longest: longest period.
    """
    periods = np.exp(rng.uniform(np.log(shortest), np.log(longest), 5))
    weights = rng.uniform(0.4, 1.0, 5) * periods
    weights *= amplitude * np.sqrt(2) / np.sqrt((weights**2).sum())
    return Wave(weights, 2 * np.pi / periods, rng.uniform(0, 2 * np.pi, 5))


def travelled(spec: WorldSpec, rng: np.random.Generator) -> F64:
    """Arc length [F] at each frame, in city driving with the stop of the spec."""
    frame = np.arange(spec.frames, dtype=np.float64)
    steps = spec.speed * np.clip(1 + random_wave(rng, 0.16, 15, 60)(frame), 0.3, 1.7)
    if spec.stop is not None:
        first, last = spec.stop
        distance = np.maximum(np.maximum(first - frame, frame - last + 1), 0)
        steps *= np.clip(distance / 6.0, 0, 1)
        steps[(frame >= first) & (frame < last)] = 0
    return np.concatenate([[0.0], np.cumsum(steps[:-1])])


def make_road(spec: WorldSpec, length: float, rng: np.random.Generator) -> Road:
    """Make a smooth road from arc length ``-BEHIND`` to ``length + AHEAD``, metres."""
    count = int((BEHIND + length + AHEAD) / STEP) + 1
    s = -BEHIND + STEP * np.arange(count)
    curvature = np.clip(spec.turn * random_wave(rng, 0.0075, 60, 260)(s), -0.02, 0.02)
    turned = np.concatenate([[0.0], np.cumsum(0.5 * (curvature[1:] + curvature[:-1]) * STEP)])
    heading = rng.uniform(-np.pi, np.pi) + turned
    middle = 0.5 * (heading[1:] + heading[:-1])
    steps = STEP * np.stack([np.cos(middle), np.sin(middle)], axis=1)
    position = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    return Road(-BEHIND, position - position[int(BEHIND / STEP)], heading)


@dataclass(frozen=True)
class Attitude:
    """Pose of the IMU: rotation ``Rz(yaw) Ry(pitch) Rx(roll)``, as in pykitti's reader of oxts."""

    position_3: F64
    roll: float
    pitch: float
    yaw: float

    @property
    def transform(self) -> F64:
        """IMU to map [4, 4]."""
        cr, sr = np.cos(self.roll), np.sin(self.roll)
        cp, sp = np.cos(self.pitch), np.sin(self.pitch)
        cy, sy = np.cos(self.yaw), np.sin(self.yaw)
        transform = np.eye(4)
        transform[:3, :3] = [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
        transform[:3, 3] = self.position_3
        return transform


def drive(road: Road, travelled_N: F64, rng: np.random.Generator) -> list[Attitude]:
    """Pose of the car at each frame, with lateral drift in its lane, pitch, roll and bounce."""
    wander = random_wave(rng, 0.12, 20, 90)
    pitch_wave, roll_wave = random_wave(rng, 0.006, 1.5, 12), random_wave(rng, 0.007, 2, 15)
    bounce = random_wave(rng, 0.012, 1.5, 10)
    lateral = wander(travelled_N)
    slope = (wander(travelled_N + 0.05) - wander(travelled_N - 0.05)) / 0.1
    points = road.point(travelled_N, lateral)
    yaw = road.heading(travelled_N) + np.arctan(slope)
    roll, pitch, height = (wave(travelled_N) for wave in (roll_wave, pitch_wave, bounce))
    return [
        Attitude(
            np.array([*points[k], IMU_HEIGHT + height[k]]),
            float(roll[k]),
            float(pitch[k]),
            float((yaw[k] + np.pi) % (2 * np.pi) - np.pi),
        )
        for k in range(len(travelled_N))
    ]
