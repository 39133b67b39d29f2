"""How alike the pictures are at both ends of matches."""

import cv2
import numpy as np


def similarities(images: tuple[np.ndarray, np.ndarray], matches_N4: np.ndarray) -> np.ndarray:
    """Normalised cross-correlation of 9x9 grey patches at both ends of each match, -1 to 1."""
    ends = np.hsplit(matches_N4, 2)
    patches0, patches1 = (_patches(image, end) for image, end in zip(images, ends, strict=True))
    return np.asarray((patches0 * patches1).sum(axis=1))


def _patches(image: np.ndarray, pixels_N2: np.ndarray) -> np.ndarray:
    """9x9 grey patches, each of mean 0 and length 1."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found = np.stack([cv2.getRectSubPix(grey, (9, 9), pixel.tolist()) for pixel in pixels_N2])
    rows = found.reshape(len(found), -1).astype(float)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
