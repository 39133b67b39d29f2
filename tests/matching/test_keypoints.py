from collections.abc import Callable
from typing import get_args

import cv2
import numpy as np
import pytest

from ucn.matching.keypoints import Detector, detect

every_detector = pytest.mark.parametrize("detector", get_args(Detector))


def blobs(centres: list[tuple[float, float]], contrasts: list[float]) -> np.ndarray:
    """Gaussian blobs, 3 px wide, on grey."""
    y, x = np.mgrid[0:80, 0:120]
    image = np.full((80, 120), 60.0)
    for (cx, cy), contrast in zip(centres, contrasts, strict=True):
        image += contrast * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 18)
    return image.round().astype(np.uint8)


def test_sift_finds_blobs_between_pixels_the_strongest_first() -> None:
    centres = [(30.3, 25.6), (80.3, 50.2), (60.8, 20.4)]
    found = detect(blobs(centres, [90, 180, 130]), "sift", 3)
    np.testing.assert_allclose(found, np.array(centres)[[1, 2, 0]], atol=0.1)


def test_fast_finds_the_corners_of_a_square() -> None:
    image = np.full((60, 70), 20, np.uint8)
    image[20:41, 15:46] = 220
    found = detect(cv2.GaussianBlur(image, (0, 0), 1.0), "fast", 4)
    corners = np.array([[15, 20], [45, 20], [15, 40], [45, 40]])
    nearest = np.linalg.norm(found[:, None] - corners[None], axis=2)
    assert (nearest.min(axis=0) <= 2).all()


@every_detector
def test_strongest_are_kept_and_none_twice(
    detector: Detector, texture: Callable[..., np.ndarray]
) -> None:
    image = texture(120, 160, seed=0)
    every = detect(image, detector, 10_000)
    assert every.dtype == np.float32
    assert 50 < len(every) == len(np.unique(every, axis=0))
    np.testing.assert_array_equal(detect(image, detector, 20), every[:20])
    finder = (
        cv2.SIFT.create(enable_precise_upscale=True)
        if detector == "sift"
        else cv2.FastFeatureDetector.create(5)
    )
    strength: dict[tuple[float, float], float] = {}
    for keypoint in finder.detect(image, None):
        strength[keypoint.pt] = max(strength.get(keypoint.pt, 0), keypoint.response)
    assert len(every) == len(strength)
    ordered = [strength[float(x), float(y)] for x, y in every]
    assert ordered == sorted(ordered, reverse=True)


@every_detector
def test_colour_is_read_as_luma(detector: Detector, texture: Callable[..., np.ndarray]) -> None:
    grey = texture(80, 100, seed=1)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(detect(rgb, detector, 50), detect(grey, detector, 50))


@every_detector
def test_flat_image_has_none(detector: Detector) -> None:
    assert detect(np.full((40, 50), 128, np.uint8), detector, 5).shape == (0, 2)


def test_equally_strong_ones_come_row_by_row() -> None:
    tile = np.full((32, 32), 20, np.uint8)
    tile[8:21, 8:24] = 220
    tile = cv2.GaussianBlur(tile, (0, 0), 1.0)
    found = detect(np.tile(tile, (3, 4)), "fast", 1000)
    assert len(found) >= 12
    order = np.lexsort((found[:, 0], found[:, 1]))
    # Every tile has the same strengths, hence ranks of 12 points, each from the top row by row.
    for rank in range(0, len(found), 12):
        block = order[(order >= rank) & (order < rank + 12)]
        np.testing.assert_array_equal(block, np.sort(block))


def test_wrong_requests_are_refused() -> None:
    image = np.zeros((40, 50), np.uint8)
    with pytest.raises(ValueError, match="at least one"):
        detect(image, "sift", 0)
    with pytest.raises(ValueError, match="choose sift or fast"):
        detect(image, "harris", 5)  # type: ignore[arg-type]
