"""Textures with structure at several scales."""

import cv2
import numpy as np


def textured(height: int, width: int, seed: int) -> np.ndarray:
    """An image with structure at several scales: uint8 [H, W]."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), sigma) * sigma
        for sigma in (1.0, 2.5, 6.0)
    ]
    return cv2.normalize(sum(layers), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
