"""Random changes of exposure and noise."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.config import AugmentationConfig


def change_light(
    image: NDArray[Any], config: AugmentationConfig, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Blur, change gamma, contrast and brightness, and add Gaussian noise.

    Args:
        image: uint8 [H, W] or [H, W, 3].
        config: ranges; a range of 0 leaves that quality alone.
        rng: every choice comes from it.

    Returns:
        a uint8 image of the same shape.
    """
    sigma = rng.uniform(0, config.blur)
    gamma = (1 + config.gamma) ** rng.uniform(-1, 1)
    contrast = 1 + rng.uniform(-config.contrast, config.contrast)
    brightness = rng.uniform(-config.brightness, config.brightness)
    deviation = rng.uniform(0, config.noise)
    if sigma > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    mean = float(image.mean()) / 255
    levels = (np.arange(256) / 255) ** gamma
    curve = (levels - mean) * contrast + mean + brightness
    if deviation == 0:
        lit: NDArray[np.uint8] = _to_uint8(curve)[image]
        return lit
    noisy = curve.astype(np.float32)[image]
    noisy += np.float32(deviation) * rng.standard_normal(image.shape, dtype=np.float32)
    return _to_uint8(noisy)


def _to_uint8(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return levels
