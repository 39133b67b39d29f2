"""The dense matcher on descriptor fields with known answers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ucn.matching.features import Dense, Features
from ucn.matching.matcher import backward_errors, find, second_similarities
from ucn.matching.scales import extract

DIMENSION = 24


def field(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and phases of a random smooth field of descriptors over the plane."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.25, (DIMENSION, 2)), rng.uniform(0, 2 * np.pi, DIMENSION)


def described(
    seed: int,
    size: tuple[int, int],
    stride: int,
    offset: float,
    shift: tuple[float, float] = (0, 0),
) -> Features:
    """An image whose descriptor at (x, y) is that of the field at (x, y) - shift."""
    frequencies_D2, phases_D = field(seed)
    width, height = size

    def describe(image: np.ndarray) -> Dense:
        x, y = np.arange(offset, width, stride), np.arange(offset, height, stride)
        cells_HW2 = np.stack(np.meshgrid(x, y), axis=-1) - shift
        rows_HWD = np.cos(cells_HW2 @ frequencies_D2.T + phases_D)
        map_DHW = F.normalize(torch.from_numpy(rows_HWD).float().permute(2, 0, 1), dim=0)
        return Dense.of(map_DHW, stride, offset)

    return extract(np.zeros((height, width), np.uint8), describe)


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize(("stride", "offset"), [(1, 0.0), (2, 0.5), (4, 1.5)])
def test_an_image_matches_itself(stride: int, offset: float, step: int) -> None:
    features = described(0, (61, 47), stride, offset)
    # Beyond the outermost cells the border is repeated, so that positions are less distinct.
    points = np.random.default_rng(1).uniform(1.5, [57.5, 43.5], (300, 2)).astype(np.float32)
    found, similarity = find(features, points, features, step_px=step)
    np.testing.assert_allclose(found, points, atol=0.01)
    np.testing.assert_allclose(similarity, 1, atol=1e-6)
    np.testing.assert_allclose(
        backward_errors(points, features, found, features, step_px=step), 0, atol=0.02
    )


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([(1, 0.0), (2, 0.5), (4, 1.5)]),
    st.sampled_from([1, 2, 4]),
    st.floats(-6, 6),
    st.floats(-6, 6),
)
def test_shifts_are_found_without_bias(
    cells: tuple[int, float], step: int, x: float, y: float
) -> None:
    stride, offset = cells
    first = described(2, (96, 80), stride, offset)
    second = described(2, (96, 80), stride, offset, (x, y))
    points = np.random.default_rng(3).uniform(16, [80, 64], (200, 2)).astype(np.float32)
    found, _ = find(first, points, second, step_px=step)
    error = found - points - np.float32([x, y])
    assert np.abs(error).max() < 0.5
    assert np.abs(error.mean(axis=0)).max() < 0.03


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([1.0, 2.0, 4.0]))
def test_second_best_lies_beyond_the_radius(seed: int, step: float) -> None:
    features = described(seed, (60, 40), 2, 0.5)
    other = described(seed + 1, (60, 40), 2, 0.5)
    points = np.random.default_rng(seed).uniform(5, 35, (30, 2)).astype(np.float32)
    found, similarity = find(other, points, features, step_px=step)
    second = second_similarities(other, points, features, found, 7.5, step_px=step)
    cells, grid = features.lattice(step)
    assert grid.stride == step
    y, x = np.mgrid[: grid.height, : grid.width]
    pixels = np.stack([x.ravel(), y.ravel()], axis=1) * grid.stride + grid.offset
    apart = np.linalg.norm(pixels[None] - found[:, None].astype(np.float64), axis=2)
    smooth, sharp = (
        (rows.double() @ cells.double().T).numpy()
        for rows in (other.read(points), other.read_sharp(points))
    )
    np.testing.assert_allclose(second, np.where(apart <= 7.5, -np.inf, smooth).max(1), atol=1e-6)
    # The found position is at least as similar as the position of the lattice that is nearest by
    # the bilinear reading.
    assert (similarity >= smooth[np.arange(30), sharp.argmax(axis=1)] - 1e-6).all()


def test_without_subpixel_matches_lie_on_the_lattice() -> None:
    features = described(4, (30, 30), 2, 0.5)
    points = np.float32([[10, 11], [21, 8]])
    found, _ = find(features, points, features, subpixel=False)
    np.testing.assert_allclose((found - 0.5) % 2, 0)
    assert np.abs(found - points).max() <= 2


def test_positions_stay_inside_the_image() -> None:
    features = described(5, (31, 22), 4, 1.5)
    other = described(6, (90, 80), 4, 1.5)
    points = np.random.default_rng(0).uniform(0, 79, (400, 2)).astype(np.float32)
    found, _ = find(other, points, features)
    assert (found >= 0).all()
    assert (found <= [30, 21]).all()
    nothing, similarity = find(other, points[:0], features)
    assert nothing.shape == (0, 2)
    assert similarity.shape == (0,)


def test_descriptors_of_points_have_unit_length() -> None:
    features = described(6, (30, 30), 2, 0.5)
    rows = features.at(np.float64([[3.2, 4.7], [-0.5, 29.5]]))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    map_DHW, grid = features.dense
    assert map_DHW.shape == (DIMENSION, grid.height, grid.width)
