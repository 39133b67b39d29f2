from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest

from evaluation.baselines import BASELINES
from evaluation.config import Baseline, MatchingConfig
from evaluation.figures import COLOURS, TITLES
from evaluation.matching import grid_points, match_points
from evaluation.pck import match_errors, pck
from evaluation.summary import UCN
from preprocessing.sample import Sample

every_baseline = pytest.mark.parametrize("name", BASELINES)


def test_registry_names_what_the_configuration_allows() -> None:
    assert set(BASELINES) == set(get_args(Baseline))
    assert set(TITLES) == set(COLOURS) == {UCN, *BASELINES}


@every_baseline
def test_every_point_is_described_up_to_the_very_border(
    name: str, texture: Callable[..., np.ndarray]
) -> None:
    image = texture(60, 80, seed=1)
    corners = [[-0.5, -0.5], [79.5, 59.5], [-0.5, 59.5], [79.5, -0.5], [0, 0], [79, 59]]
    points = np.concatenate([np.float32(corners), grid_points(80, 60, 7)])
    described = BASELINES[name](image, points)
    assert described.dtype == np.float32
    assert described.shape[0] == len(points)
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=1e-5)


@every_baseline
def test_rows_keep_the_order_of_the_points(name: str, texture: Callable[..., np.ndarray]) -> None:
    image = texture(60, 80, seed=2)
    points = np.random.default_rng(0).uniform(0, 59, (50, 2)).astype(np.float32)
    order = np.random.default_rng(1).permutation(50)
    described = BASELINES[name](image, points)
    np.testing.assert_array_equal(BASELINES[name](image, points[order]), described[order])


@every_baseline
def test_image_matches_itself(name: str, shifted: Callable[..., Sample]) -> None:
    sample = shifted((0, 0))
    queries = grid_points(120, 90, 6)
    found = match_points(sample.image0, sample.image0, queries, BASELINES[name], MatchingConfig())
    assert pck(match_errors(found.positions_N2, queries), [0.0])[0] == 100
    assert found.reciprocal_N.all()


@every_baseline
@pytest.mark.parametrize("shift", [(8, 0), (-6, 10)])
def test_shift_is_followed(
    name: str, shift: tuple[int, int], shifted: Callable[..., Sample]
) -> None:
    sample = shifted(shift, seed=4)
    truth = sample.matches_N4[(sample.matches_N4 % 2 == 0).all(axis=1)]
    # Patches that the border cuts differ between the images.
    inner = (truth >= 25) & (truth < np.array([95, 65, 95, 65]))
    truth = truth[inner.all(axis=1)]
    found = match_points(
        sample.image0, sample.image1, truth[:, :2].copy(), BASELINES[name], MatchingConfig()
    )
    assert pck(match_errors(found.positions_N2, truth[:, 2:]), [1.0])[0] > 98


@every_baseline
def test_descriptors_move_with_the_image(name: str, texture: Callable[..., np.ndarray]) -> None:
    scene = texture(140, 160, seed=3)
    points = grid_points(30, 20, 5) + np.float32(55)
    still = BASELINES[name](scene[:130, :150].copy(), points)
    moved = BASELINES[name](scene[6:, 9:].copy(), points - np.float32([9, 6]))
    # OpenCV quantises SIFT to bytes; a rounding of one level is 0.01 after the square root.
    np.testing.assert_allclose(moved, still, atol=0.02)


@every_baseline
def test_colour_is_read_as_luma(name: str, texture: Callable[..., np.ndarray]) -> None:
    grey = texture(60, 80, seed=5)
    points = grid_points(80, 60, 9)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(BASELINES[name](rgb, points), BASELINES[name](grey, points))


@every_baseline
def test_flat_images_and_no_points_are_no_error(name: str) -> None:
    flat = np.full((40, 50), 255, np.uint8)
    assert np.isfinite(BASELINES[name](flat, grid_points(50, 40, 5))).all()
    assert len(BASELINES[name](flat, np.zeros((0, 2), np.float32))) == 0
