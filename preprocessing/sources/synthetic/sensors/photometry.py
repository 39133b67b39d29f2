"""Converts radiance to pixels: blur, exposure, vignetting, noise and tone vary by frame."""

import cv2
import numpy as np

from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.materials.textures import F32, U8
from ucn.preprocessing.sources.synthetic.scene.lighting import GAMMA
from ucn.preprocessing.sources.synthetic.scene.trajectory import random_wave

EXPOSURE = 0.12
"""Overexposure relative to a sunlit white wall at the clipping limit. Most of the sky is clipped,
as in KITTI."""


def expose(radiance_HW3: F32, spec: WorldSpec, frame: int, camera: int) -> U8:
    """Image uint8 [H, W, 3] recorded by the camera.

    Exposure, tone and colour drift smoothly over the frames, with small random changes in each
    frame. Blur and noise are independent between frames. With ``spec.photometric`` 0, the radiance
    is only clipped and rounded.
    """
    strength = spec.photometric
    image = radiance_HW3
    if strength > 0:
        drive_rng = np.random.default_rng([spec.seed, 100])
        rng = np.random.default_rng([spec.seed, 101, frame, camera])
        drifts = [float(random_wave(drive_rng, 1.0, 25, 120)(np.array(frame))) for _ in range(3)]
        sigma = np.clip(rng.normal(0.5, 0.12, 2) * strength, 0.05, 1.0)
        blurred = cv2.GaussianBlur(image, (0, 0), float(sigma[0]), sigmaY=float(sigma[1]))
        image = np.asarray(blurred, np.float32)
        gain = EXPOSURE + 0.06 * drifts[0] + 0.03 * rng.normal()
        warmth = 0.012 * drifts[1] + 0.004 * rng.normal()
        tone = 1 + strength * (0.05 * drifts[2] + 0.02 * rng.normal())
        balance = 1 + strength * np.array([gain + warmth, gain, gain - warmth])
        image = image * (vignetting(image.shape[0], image.shape[1], strength)[..., None] * balance)
        image = np.clip(image, 0, 1.5) ** tone
        image = image + sensor_noise(rng, image.astype(np.float32), strength)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def vignetting(height: int, width: int, strength: float) -> F32:
    """Brightness factor [H, W]; about 8 % lower in the corners at strength 1."""
    y = np.linspace(-1, 1, height)[:, None]
    x = np.linspace(-1, 1, width)[None, :]
    return (1 - 0.04 * strength * (x**2 + y**2)).astype(np.float32)


def sensor_noise(rng: np.random.Generator, image_HW3: F32, strength: float) -> F32:
    """Shot noise and read noise of a gamma-coded image, in gamma-coded units.

    The variance at linear intensity L is ``shot * L + read``. Gamma coding multiplies the standard
    deviation by its slope.
    """
    linear = np.clip(image_HW3, 0.02, 1) ** GAMMA
    deviation = np.sqrt(4e-5 * linear + 2e-6)
    slope = np.clip(image_HW3, 0.1, 1) / (GAMMA * np.maximum(linear, 0.1**GAMMA))
    white = rng.standard_normal(image_HW3.shape, np.float32)
    return np.asarray((strength * white * deviation * slope).astype(np.float32))
