"""Augmentation moves pixels and correspondences alike."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ucn.training.config import AugmentationConfig
from ucn.training.data.augment import (
    apply_matrix,
    augment_pair,
    mirror_matrix,
    similarity_matrix,
    warp,
)

PLAIN = {"brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "noise": 0.0}


def config(**values: float) -> AugmentationConfig:
    return AugmentationConfig(**({"crop_width": 48, "crop_height": 40} | PLAIN | values))


def coordinate_image(height: int, width: int) -> np.ndarray:
    """Each pixel names its own place: (x, y, 200)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 200)], axis=-1).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(30, 200),
    st.integers(30, 200),
    st.sampled_from([0.0, 1.0]),
    st.integers(0, 20),
)
def test_crops_and_mirrors_are_exact(
    seed: int, height: int, width: int, mirror: float, shift: int
) -> None:
    rng = np.random.default_rng(seed)
    image0, image1 = coordinate_image(height, width), coordinate_image(height + 7, width + 3)
    before = np.concatenate(
        [rng.integers(0, [width, height], (80, 2)), rng.integers(0, [width, height], (80, 2))], 1
    ).astype(np.float32)
    views = augment_pair(image0, image1, before, config(mirror=mirror, shift=shift), 8, rng)
    assert len(views.matches_N4) >= 1
    originals = {tuple(row) for row in before.tolist()}
    for x0, y0, x1, y1 in views.matches_N4.astype(int).tolist():
        assert views.valid[0][y0, x0]
        assert views.valid[1][y1, x1]
        place0, place1 = views.images[0][y0, x0], views.images[1][y1, x1]
        assert (*map(float, place0[:2]), *map(float, place1[:2])) in originals
    for image, valid in zip(views.images, views.valid, strict=True):
        assert image.shape == (40, 48, 3)
        np.testing.assert_array_equal(image[..., 2] == 200, valid)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.5), st.floats(0, 30), st.sampled_from([0.0, 1.0]))
def test_warped_pixels_lie_where_the_correspondences_say(
    seed: int, scale: float, rotation: float, mirror: float
) -> None:
    rng = np.random.default_rng(seed)
    image = coordinate_image(160, 200)
    spots = rng.uniform([20, 20], [180, 140], (300, 2))
    before = np.concatenate([spots, spots], axis=1).astype(np.float32)
    views = augment_pair(
        image, image, before, config(mirror=mirror, scale=scale, rotation=rotation), 8, rng
    )
    for x0, y0, x1, y1 in views.matches_N4.tolist():
        here, there = np.array([x0, y0]), np.array([x1, y1])
        if not ((here < [47, 39]) & (there < [47, 39])).all():
            continue
        # Both crops show the pixel's own place, so they must agree where the points correspond.
        difference = bilinear(views.images[0], here) - bilinear(views.images[1], there)
        assert np.abs(difference).max() <= 1.6


def bilinear(image: np.ndarray, point: np.ndarray) -> np.ndarray:
    x, y = np.floor(point).astype(int)
    fx, fy = point - (x, y)
    values = image[y : y + 2, x : x + 2, :2].astype(np.float64)
    rows = values[0] * (1 - fy) + values[1] * fy
    return np.asarray(rows[0] * (1 - fx) + rows[1] * fx)


def test_same_seed_same_views_and_another_seed_others() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120), dtype=np.uint8)
    matches = np.random.default_rng(1).uniform(0, 89, (500, 4)).astype(np.float32)

    def run(seed: int) -> np.ndarray:
        settings = AugmentationConfig(crop_width=48, crop_height=40, rotation=10, scale=0.2)
        views = augment_pair(image, image, matches, settings, 8, np.random.default_rng(seed))
        return np.concatenate([views.images[0].ravel(), views.images[1].ravel()])

    np.testing.assert_array_equal(run(5), run(5))
    assert (run(5) != run(6)).any()


def test_mirror_and_rotation_keep_their_fixed_points() -> None:
    np.testing.assert_allclose(apply_matrix(mirror_matrix(101), np.array([[50.0, 3.0]])), [[50, 3]])
    turn = similarity_matrix(1.0, 90.0, (61, 101))
    np.testing.assert_allclose(
        apply_matrix(turn, np.array([[50.0, 30.0], [60.0, 30.0]])), [[50, 30], [50, 40]]
    )


def test_canvas_beyond_the_image_is_padding() -> None:
    canvas, valid = warp(np.full((3, 4), 9, dtype=np.uint8), np.eye(3), np.array([6, 5]))
    np.testing.assert_array_equal(canvas == 9, valid)
    assert valid.sum() == 12
