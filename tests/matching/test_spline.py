"""Cubic B-splines against SciPy's, and the maximum of the similarity against a fine lattice."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from torch.nn import functional as F

from ucn.matching.spline import _weights, climb, read_spline, resample_spline


def smooth_map(seed: int, height: int = 12, width: int = 15, dimension: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (1, dimension, max(2, height // 3), max(2, width // 3))
    coarse = torch.randn(size, generator=generator)
    rows = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
    return F.normalize(rows[0].permute(1, 2, 0), dim=2).contiguous()


def reference(map_HWD: torch.Tensor, cells_N2: np.ndarray) -> np.ndarray:
    """SciPy's B-splines in float64, with the border repeated far enough."""
    margin = 4
    padded = np.pad(map_HWD.double().numpy(), ((margin,) * 2, (margin,) * 2, (0, 0)), mode="edge")
    places = (cells_N2 + margin)[:, ::-1].T
    rows = np.stack(
        [
            map_coordinates(padded[..., d], places, order=3, prefilter=False, mode="nearest")
            for d in range(padded.shape[2])
        ],
        axis=1,
    )
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9))
def test_read_equals_scipy(seed: int, height: int, width: int) -> None:
    map_HWD = F.normalize(torch.randn(height, width, 5, generator=torch.Generator()), dim=2)
    rng = np.random.default_rng(seed)
    cells = rng.uniform(-1, [width, height], (30, 2))
    cells[:10] = np.round(cells[:10])
    found = read_spline(map_HWD, torch.from_numpy(cells))
    np.testing.assert_allclose(found, reference(map_HWD, cells), atol=2e-6)


@pytest.mark.parametrize(("every", "parts"), [(1, 1), (2, 1), (3, 1), (1, 2), (1, 4)])
@pytest.mark.parametrize("size", [(12, 15), (1, 1), (2, 7), (150, 3)])
def test_resampled_lattice_equals_scipy(every: int, parts: int, size: tuple[int, int]) -> None:
    map_HWD = smooth_map(3, *size)
    lattice = resample_spline(map_HWD, every, parts)
    y, x = (np.arange(0, side - 1 + 1e-9, every / parts) for side in size)
    assert lattice.shape[:2] == (len(y), len(x))
    cells = np.stack([grid.ravel() for grid in np.meshgrid(x, y)], axis=1)
    np.testing.assert_allclose(lattice.flatten(0, 1), reference(map_HWD, cells), atol=2e-6)


def test_derivatives_of_the_weights() -> None:
    offsets = torch.rand(20, 2, dtype=torch.float64, generator=torch.Generator()) * 2 - 1
    step = 1e-6
    for axis in (0, 1):
        move = torch.zeros(2, dtype=torch.float64)
        move[axis] = step
        slope = (_weights(offsets + move) - _weights(offsets - move)) / (2 * step)
        weights = _weights(offsets)
        torch.testing.assert_close(slope[:, 0], weights[:, 1 + axis], atol=1e-7, rtol=0)
        torch.testing.assert_close(slope[:, 1 + axis], weights[:, 3 + axis], atol=1e-6, rtol=0)
        torch.testing.assert_close(slope[:, 2 - axis], weights[:, 5], atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_position_of_the_map_is_found_exactly(seed: int) -> None:
    map_HWD = smooth_map(seed)
    rng = np.random.default_rng(seed)
    cells = torch.from_numpy(rng.uniform(1, [13, 10], (200, 2)))
    found, similarity = climb(read_spline(map_HWD, cells), map_HWD, cells.round())
    # The map is so rough that there may be two maxima within a cell.
    exact = ((found - cells).abs() < 2e-3).all(dim=1)
    assert exact.double().mean() >= 0.99
    torch.testing.assert_close(similarity[exact], torch.ones(int(exact.sum())).double())


@pytest.mark.parametrize("reach", [0, 3])
def test_maximum_equals_that_of_a_fine_lattice(reach: int) -> None:
    map_HWD = smooth_map(7)
    generator = torch.Generator().manual_seed(1)
    start = torch.tensor([[7.0, 6.0]]).expand(60, 2)
    queries = F.normalize(map_HWD[6, 7] + 0.4 * torch.randn(60, 8, generator=generator), dim=1)
    found, similarity = climb(queries, map_HWD, start, reach)
    torch.testing.assert_close(
        (read_spline(map_HWD, found) * queries).sum(1).double(), similarity, atol=1e-6, rtol=0
    )
    # The window of one cell around the most similar cell within reach.
    steps = np.arange(-reach, reach + 1)
    near = np.stack([g.ravel() for g in np.meshgrid(7 + steps, 6 + steps)], axis=1)
    centre = near[(reference(map_HWD, near) @ queries.double().numpy().T).argmax(axis=0)]
    fine = np.linspace(-1, 1, 81)
    offsets = np.stack([g.ravel() for g in np.meshgrid(fine, fine)], axis=1)
    for row, query in enumerate(queries.double().numpy()):
        best = (reference(map_HWD, centre[row] + offsets) @ query).max()
        assert similarity[row] >= best - 1e-3
        assert (abs(found[row].numpy() - centre[row]) <= 1 + 1e-9).all()
