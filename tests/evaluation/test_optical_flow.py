from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from ucn.evaluation.methods.baselines.optical_flow import DenseFlow, follow_flow
from ucn.evaluation.methods.baselines.registry import BASELINES
from ucn.evaluation.scores.pck import match_errors, pck
from ucn.preprocessing.sample import Sample

KINDS = {name: BASELINES.load(name) for name in BASELINES.builtin}
MATCHERS = {name: kind().match for name, kind in KINDS.items() if issubclass(kind, DenseFlow)}
every_matcher = pytest.mark.parametrize("name", MATCHERS)


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_flow_is_read_bilinearly(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    flow = rng.normal(0, 9, (height, width, 2)).astype(np.float32)
    points = rng.uniform(-2, [width + 1, height + 1], (30, 2)).astype(np.float32)
    expected = [
        map_coordinates(flow[..., axis].astype(float), points.T[::-1], order=1, mode="nearest")
        for axis in (0, 1)
    ]
    moved = follow_flow(flow, points)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, points + np.stack(expected, axis=1), atol=2e-5)


@every_matcher
def test_image_stays_where_it_is(name: str, texture: Callable[..., np.ndarray]) -> None:
    image = texture(90, 120, seed=0)
    points = np.random.default_rng(0).uniform(0, 89, (50, 2)).astype(np.float32)
    np.testing.assert_allclose(MATCHERS[name](image, image, points), points, atol=0.1)


@every_matcher
@pytest.mark.parametrize("shift", [(3, -2), (-4, 1)])
def test_shift_is_followed(
    name: str, shift: tuple[int, int], shifted: Callable[..., Sample]
) -> None:
    sample = shifted(shift, seed=1)
    queries = sample.matches_N4[:, :2].copy()
    found = MATCHERS[name](sample.image0, sample.image1, queries)
    assert found.dtype == np.float32
    errors = match_errors(found, sample.matches_N4[:, 2:])
    assert pck(errors, [1.0])[0] > 90
    assert np.median(errors) < 0.25


@every_matcher
def test_smooth_warp_is_followed_and_order_kept(
    name: str, texture: Callable[..., np.ndarray]
) -> None:
    image1 = texture(100, 130, seed=2)
    y, x = np.mgrid[0:100, 0:130].astype(np.float32)
    flow = np.stack([3 * np.sin(y / 30), 2 * np.cos(x / 35)], axis=-1)
    image0 = cv2.remap(image1, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC)
    queries = np.stack([x, y], axis=-1)[8:-8:5, 8:-8:5].reshape(-1, 2)
    truth = queries + flow[8:-8:5, 8:-8:5].reshape(-1, 2)
    order = np.random.default_rng(1).permutation(len(queries))
    found = MATCHERS[name](image0, image1, queries[order])
    assert pck(match_errors(found, truth[order]), [1.0])[0] > 90


@every_matcher
def test_colour_is_read_as_luma(name: str, shifted: Callable[..., Sample]) -> None:
    sample = shifted((2, 1), seed=3)
    points = sample.matches_N4[::50, :2].copy()
    colour = [np.repeat(grey[:, :, None], 3, axis=2) for grey in (sample.image0, sample.image1)]
    np.testing.assert_array_equal(
        MATCHERS[name](colour[0], colour[1], points),
        MATCHERS[name](sample.image0, sample.image1, points),
    )


@every_matcher
@pytest.mark.parametrize("cut", [0, 1])
def test_images_may_differ_in_size(name: str, cut: int, shifted: Callable[..., Sample]) -> None:
    sample = shifted((2, -1), seed=4)
    images = [sample.image0, sample.image1]
    images[cut] = images[cut][:80, :100].copy()
    inner = (sample.matches_N4 < np.array([90, 70, 90, 70])).all(axis=1)
    truth = sample.matches_N4[inner]
    found = MATCHERS[name](images[0], images[1], truth[:, :2].copy())
    assert np.median(match_errors(found, truth[:, 2:])) < 0.5


def test_smaller_image_repeats_its_border_and_keeps_its_pixels() -> None:
    seen = []

    class Still(DenseFlow):
        title = "no flow"

        def flow(self, grey0: np.ndarray, grey1: np.ndarray) -> np.ndarray:
            seen.extend([grey0, grey1])
            return np.zeros((*grey0.shape, 2))

    rng = np.random.default_rng(5)
    image0, image1 = (rng.integers(0, 256, size, np.uint8) for size in ((70, 99), (80, 90)))
    Still().match(image0, image1, np.zeros((1, 2), np.float32))
    np.testing.assert_array_equal(seen[0], np.pad(image0, ((0, 10), (0, 0)), "edge"))
    np.testing.assert_array_equal(seen[1], np.pad(image1, ((0, 0), (0, 9)), "edge"))


@every_matcher
@pytest.mark.parametrize("size", [(1, 1), (5, 90), (40, 50)])
def test_flat_and_tiny_images_and_no_points_are_no_error(name: str, size: tuple[int, int]) -> None:
    flat = np.full(size, 255, np.uint8)
    point = np.zeros((1, 2), np.float32)
    found = MATCHERS[name](flat, flat, point)
    # Those that follow corners have none to follow.
    assert np.isnan(found).all() if name in ("pcaflow", "sparse_to_dense") else (found == 0).all()
    assert MATCHERS[name](flat, flat, point[:0]).shape == (0, 2)
