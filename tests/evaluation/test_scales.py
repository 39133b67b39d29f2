"""Matching across changes of scale, against its definition in float64 and on enlarged images."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.dense_matching import describe_pair, match_points
from ucn.evaluation.config import MatchingConfig, Scales
from ucn.evaluation.methods.baselines.dense_sift import describe_sift
from ucn.matching.descriptors import unit_rows
from ucn.matching.matcher import second_similarities
from ucn.matching.scales import (
    LEVEL,
    image_levels,
    level_points,
    nearest_at_any_scale,
    relative_scales,
    shift_stacks,
)
from ucn.preprocessing.sample import Sample


def random_stacks(rng: np.random.Generator, count: int, levels: int) -> torch.Tensor:
    rows = [torch.from_numpy(unit_rows(rng.standard_normal((count, 5)))) for _ in range(levels)]
    return torch.cat(rows, dim=1) / levels**0.5


def cosines(stacks0: torch.Tensor, stacks1: torch.Tensor, levels: int) -> np.ndarray:
    """By definition: [K, N, M], the mean over the pairs of levels that are k apart."""
    first, second = (
        stacks.double().numpy().reshape(len(stacks), levels, -1) * levels**0.5
        for stacks in (stacks0, stacks1)
    )
    reach = levels // 2
    return np.stack(
        [
            np.mean(
                [
                    first[:, level + shift] @ second[:, level].T
                    for level in range(levels)
                    if 0 <= level + shift < levels
                ],
                axis=0,
            )
            for shift in range(-reach, reach + 1)
        ]
    )


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 5]))
def test_equals_its_definition(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    queries, references = (random_stacks(rng, count, levels) for count in (12, 40))
    expected_KNM = cosines(queries, references, levels)
    moved = list(relative_scales(queries, levels))
    for moved_ND, expected_NM in zip(moved, expected_KNM, strict=True):
        np.testing.assert_allclose(moved_ND @ references.T, expected_NM, atol=1e-6)

    index_N, similarity_N, scale_N = nearest_at_any_scale(queries, references, levels, 1)
    aligned_ND = shift_stacks(queries, levels, scale_N)
    best_NM = expected_KNM.max(axis=0)
    np.testing.assert_allclose(similarity_N, best_NM.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(best_NM[np.arange(12), index_N], best_NM.max(axis=1), atol=1e-6)
    np.testing.assert_allclose((aligned_ND * references[index_N]).sum(1), similarity_N, atol=1e-6)


def test_one_level_is_the_image_as_it_is() -> None:
    image = np.zeros((7, 9), np.uint8)
    ((scaled, scale_2),) = image_levels(image, 1)
    assert scaled is image
    assert scale_2.tolist() == [1, 1]
    rows = random_stacks(np.random.default_rng(3), 4, 1)
    (same,) = relative_scales(rows, 1)
    assert torch.equal(same, rows)


@pytest.mark.parametrize("size", [(64, 48), (31, 77), (1, 1)])
def test_levels_are_half_an_octave_apart_and_their_edges_meet(size: tuple[int, int]) -> None:
    levels = image_levels(np.zeros((size[1], size[0], 3), np.uint8), 5)
    corners = np.float32([[-0.5, -0.5], [size[0] - 0.5, size[1] - 0.5]])
    for level, (scaled, scale_2) in enumerate(levels):
        width, height = scaled.shape[1], scaled.shape[0]
        assert (width, height) == tuple(max(1, round(side * LEVEL ** (level - 2))) for side in size)
        np.testing.assert_allclose(
            level_points(corners, scale_2), [[-0.5, -0.5], [width - 0.5, height - 0.5]], atol=1e-4
        )


def found_within(
    images: tuple[np.ndarray, np.ndarray], truth_N4: np.ndarray, scales: Scales
) -> float:
    """Percent of the points that dense SIFT finds within 3 px."""
    config = MatchingConfig(scales=scales, reciprocity_px=0)
    found = match_points(*images, truth_N4[:, :2].copy(), describe_sift, config)
    error_N = np.linalg.norm(found.positions_N2 - truth_N4[:, 2:], axis=1)
    return float(100 * np.mean(error_N <= 3))


@pytest.mark.parametrize("way", [1, -1])
def test_what_grows_or_shrinks_is_found(texture: Callable[..., np.ndarray], way: int) -> None:
    """Image 1 is image 0 almost an octave larger or smaller."""
    image = texture(90, 120, seed=4)
    factor = 1.9**way
    height, width = image.shape
    size = (round(width * factor), round(height * factor))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(0)
    points_N2 = rng.uniform(20, [width - 20, height - 20], (200, 2)).astype(np.float32)
    truth_N4 = np.concatenate([points_N2, level_points(points_N2, np.float64([factor] * 2))], 1)
    plain = found_within((image, scaled), truth_N4, 1)
    across = found_within((image, scaled), truth_N4, 3)
    assert across > 95
    assert plain < 50


def test_the_second_best_is_looked_for_at_every_scale(shifted: Callable[..., Sample]) -> None:
    sample = shifted((6, 4))
    queries = sample.matches_N4[::97, :2].copy()
    config = MatchingConfig(scales=3, grid_step=4)
    images = sample.image0, sample.image1
    features0, features1 = describe_pair(images, describe_sift, config)
    queries_ND = features0.read(queries)
    found = match_points(*images, queries, describe_sift, config)
    second_N = second_similarities(
        features0, queries, features1, found.positions_N2, 8.0, step_px=4
    )

    cells_MD, grid = features1.lattice(4)
    moved = list(relative_scales(queries_ND, 3))
    cosine_NM = np.max([(rows @ cells_MD.T).numpy() for rows in moved], axis=0)
    y, x = np.divmod(np.arange(grid.height * grid.width), grid.width)
    away_NM = np.linalg.norm(
        4 * np.stack([x, y], axis=1)[None] - found.positions_N2[:, None].astype(np.float64), axis=2
    )
    cosine_NM[away_NM <= 8.0] = -np.inf
    np.testing.assert_allclose(second_N, cosine_NM.max(axis=1), atol=1e-5)
    assert features1.map_HWD.shape[2] == 3 * 128
