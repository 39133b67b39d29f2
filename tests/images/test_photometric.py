"""Light changes by what is asked for, and nothing else does."""

from dataclasses import replace

import numpy as np
import pytest

from ucn.images.photometric import LightRanges, change_light

NONE = LightRanges(blur=0, gamma=0, contrast=0, brightness=0, noise=0)
ALL = LightRanges(blur=1, gamma=0.3, contrast=0.3, brightness=0.1, noise=0.02, colour=0.1)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 180, (64, 64), dtype=np.uint8)


def test_no_change_is_none(image: np.ndarray) -> None:
    np.testing.assert_array_equal(change_light(image, NONE, np.random.default_rng(0)), image)


def test_noise_has_the_drawn_deviation(image: np.ndarray) -> None:
    noisy = change_light(image, replace(NONE, noise=0.1), np.random.default_rng(1))
    spread = (noisy.astype(float) - image).std()
    draws = np.random.default_rng(1).uniform(size=5)
    assert spread == pytest.approx(255 * 0.1 * draws[4], rel=0.05)


def test_brightness_is_an_offset(image: np.ndarray) -> None:
    brighter = change_light(image, replace(NONE, brightness=0.2), np.random.default_rng(2))
    change = brighter.astype(float) - image
    assert np.ptp(change) <= 1
    assert 1 < abs(change.mean()) <= 0.2 * 255


def test_colour_is_a_gain_of_each_channel(image: np.ndarray) -> None:
    tinted = change_light(
        np.dstack([image] * 3), replace(NONE, colour=0.3), np.random.default_rng(3)
    )
    gains = (tinted.astype(float) / image[..., None]).mean((0, 1))
    expected = 1.3 ** np.random.default_rng(3).uniform(-1, 1, 8)[5:]
    np.testing.assert_allclose(gains, expected, atol=0.005)
    grey = change_light(image, replace(NONE, colour=0.3), np.random.default_rng(3))
    np.testing.assert_array_equal(grey, image)


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
def test_equal_seeds_give_equal_images(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(4).integers(0, 256, shape, dtype=np.uint8)
    first, again, other = (change_light(image, ALL, np.random.default_rng(n)) for n in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert first.shape == shape
    assert (first != other).any()
