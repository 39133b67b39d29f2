import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ucn.matching.exclusion import Grid
from ucn.matching.refinement import refine_positions

GRID = Grid(9, 11, 2.0, 0.0)


def tent(x: float, y: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A query, and a grid whose similarity to it is a paraboloid with its top at (x, y) px."""
    rows, columns = np.mgrid[0:9, 0:11]
    similarity = 0.9 - 0.01 * ((2 * columns - x) ** 2 + (2 * rows - y) ** 2)
    similarity = np.clip(similarity, -1, 1).ravel()
    grid = np.stack([similarity, np.sqrt(1 - similarity**2)], axis=1)
    return torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.from_numpy(grid)


@given(st.floats(2, 18), st.floats(2, 14))
def test_top_of_a_parabola_is_found(x: float, y: float) -> None:
    queries, grid = tent(x, y)
    best = (grid @ queries.T)[:, 0].argmax()[None]
    refined = refine_positions(queries, grid, GRID, best)
    np.testing.assert_allclose(refined, [[x, y]], atol=1e-4)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (20, 16), (0, 7), (9, 16)])
def test_matches_on_the_border_stay_there(x: float, y: float) -> None:
    queries, grid = tent(x, y)
    best = (grid @ queries.T)[:, 0].argmax()
    refined = refine_positions(queries, grid, GRID, best[None])[0]
    column, row = int(best) % 11, int(best) // 11
    if column in (0, 10):
        assert refined[0] == 2 * column
    if row in (0, 8):
        assert refined[1] == 2 * row


def test_never_beyond_half_a_step_and_flat_stays() -> None:
    rng = np.random.default_rng(0)
    grid = torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((99, 6))), dim=1)
    queries = torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((50, 6))), dim=1)
    index = torch.from_numpy(rng.integers(0, 99, 50))
    pixels = np.stack([index % 11, index // 11], axis=1) * 2.0
    assert np.abs(refine_positions(queries, grid, GRID, index) - pixels).max() <= 1
    flat = grid[:1].expand(99, -1)
    np.testing.assert_array_equal(refine_positions(queries, flat, GRID, index), pixels)
