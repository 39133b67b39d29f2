"""Random changes of an image's exposure, tone, colour, sharpness and noise."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Array

# A narrower Gaussian has no effect on neighbouring pixels.
_NARROWEST_BLUR = 0.2


@dataclass(frozen=True)
class LightRanges:
    """Ranges of the photometric changes; 0 disables a change.

    Attributes:
        blur: largest standard deviation of the Gaussian, pixels.
        gamma: exponents range from 1 / (1 + gamma) to 1 + gamma.
        contrast: gain about the image's mean, from 1 - contrast to 1 + contrast.
        brightness: largest offset, added or subtracted, as a fraction of the full range.
        noise: largest standard deviation, as a fraction of the full range.
        colour: independent gain of each channel, from 1 / (1 + colour) to 1 + colour.
    """

    blur: float
    gamma: float
    contrast: float
    brightness: float
    noise: float
    colour: float = 0.0


def change_light(image: Array, ranges: LightRanges, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Changes blur, gamma, contrast, brightness and colour, and adds Gaussian noise.

    Args:
        image: uint8 [H, W] or [H, W, 3].
        ranges: ranges of the changes.
        rng: source of all randomness.

    Returns:
        A uint8 image of the same shape.
    """
    sigma = rng.uniform(0, ranges.blur)
    gamma = (1 + ranges.gamma) ** rng.uniform(-1, 1)
    contrast = 1 + rng.uniform(-ranges.contrast, ranges.contrast)
    brightness = rng.uniform(-ranges.brightness, ranges.brightness)
    deviation = rng.uniform(0, ranges.noise)
    if sigma > _NARROWEST_BLUR:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    mean = float(image.mean()) / 255
    levels = (np.arange(256) / 255) ** gamma
    curve = (levels - mean) * contrast + mean + brightness
    if ranges.colour > 0 and image.ndim == 3:
        gains_3 = (1 + ranges.colour) ** rng.uniform(-1, 1, 3)
        tinted = [curve[image[..., band]] * gain for band, gain in enumerate(gains_3)]
        lit = np.stack(tinted, axis=-1).astype(np.float32)
    elif deviation == 0:
        return np.asarray(_to_uint8(curve)[image])
    else:
        lit = np.asarray(cv2.LUT(image, curve.astype(np.float32)), np.float32)
    if deviation > 0:
        lit += np.float32(deviation) * rng.standard_normal(image.shape, dtype=np.float32)
    return _to_uint8(lit)


def _to_uint8(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return levels
