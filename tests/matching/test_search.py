"""The search against brute force in float64: tiles, the coarse pass, masks and batches."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ucn.matching import coarse_search as coarse
from ucn.matching import search as module
from ucn.matching.exclusion import Exclusion
from ucn.matching.features import Grid, cell_centres
from ucn.matching.search import search


def unit(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return F.normalize(torch.from_numpy(rng.standard_normal(shape)), dim=-1).float()


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 300), st.integers(1, 12))
def test_equals_brute_force(seed: int, n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    queries, cells = unit(rng, n, d), unit(rng, m, d)
    found = search(queries, cells, memory_mib=1)
    products = queries.double() @ cells.double().T
    best = products.amax(dim=1)
    torch.testing.assert_close(products[torch.arange(n), found.index_N], best, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.similarity_N.double(), best, atol=1e-6, rtol=0)
    assert (found.inside_N == -torch.inf).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 9))
def test_ties_go_to_the_lowest_cell(seed: int, copies: int) -> None:
    rng = np.random.default_rng(seed)
    # Multiples of 1/8: products are exact, so that equal rows tie exactly.
    cells = torch.from_numpy(rng.integers(-8, 9, (10, 4)).astype(np.float32) / 8)
    queries = torch.from_numpy(rng.integers(-8, 9, (25, 4)).astype(np.float32) / 8)
    expected = np.argmax((queries @ cells.T).numpy(), axis=1)
    assert search(queries, cells.repeat(copies, 1)).index_N.tolist() == expected.tolist()


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.5])
@pytest.mark.parametrize("num_cells", [1, 255, 256, 9000])
def test_coarse_pass_finds_the_answers_of_float32(
    noise: float, num_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smooth maps have many cells within the error of bfloat16 of the best one."""
    rng = np.random.default_rng(num_cells)
    coarse = torch.from_numpy(rng.standard_normal((1, 24, 12, 12)))
    smooth = F.interpolate(coarse, size=(90, 100), mode="bicubic", align_corners=True)[0]
    cells = F.normalize(smooth.flatten(1).T, dim=1).float()[:num_cells]
    picked = cells[rng.integers(0, num_cells, 130)]
    queries = F.normalize(picked + noise * unit(rng, 130, 24), dim=1)
    force_coarse(monkeypatch)
    index, similarity, _ = search(queries, cells)
    products = queries.double() @ cells.double().T
    best = products.amax(dim=1)
    torch.testing.assert_close(products[torch.arange(130), index], best, atol=2e-7, rtol=0)
    torch.testing.assert_close(similarity.double(), best, atol=1e-6, rtol=0)


def test_coarse_pass_of_dissimilar_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative bfloat16 numbers are not ordered as their bits; also queries of zeros."""
    rng = np.random.default_rng(1)
    cells = unit(rng, 700, 5).abs()
    queries = torch.cat([-unit(rng, 60, 5).abs(), torch.zeros(4, 5)])
    products = queries.double() @ cells.double().T
    for share in (0, coarse._CELLS_PER_CANDIDATE):
        force_coarse(monkeypatch, share)
        index, similarity, _ = search(queries, cells)
        torch.testing.assert_close(similarity.double(), products.amax(1), atol=1e-6, rtol=0)
        assert index[-4:].tolist() == [0] * 4


def force_coarse(patch: pytest.MonkeyPatch, share: int = 0) -> None:
    """Whatever the CPU; without a share, also where nearly all cells are candidates."""
    patch.setattr(module, "pays_coarse_search", lambda queries, cells: True)
    patch.setattr(coarse, "_CELLS_PER_CANDIDATE", share)


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0, 40),
    st.booleans(),
    st.sampled_from([1, 2000, 1 << 20]),
    st.booleans(),
)
def test_masked_search_in_chunks(
    seed: int, radius: float, padded: bool, room: int, is_coarse: bool
) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid(int(rng.integers(1, 12)), int(rng.integers(1, 12)), 4, 1.5)
    others = int(rng.integers(0, 30))
    cells = unit(rng, grid.height * grid.width + others, 6)
    queries = unit(rng, 2, 17, 6)
    points = torch.from_numpy(rng.uniform(0, 48, (2, 17, 2)))
    valid = torch.from_numpy(rng.random((2, len(cells))) < 0.7) if padded else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CPU_TILE", room)
        patch.setattr(module, "CPU_COLUMNS", 50)
        if is_coarse:
            force_coarse(patch)
            for part in (module, coarse):
                patch.setattr(part, "ROWS", 5)
                patch.setattr(part, "COLUMNS", 64)
            patch.setattr(coarse, "_BLOCK", 16)
        found = search(
            queries,
            cells.expand(2, -1, -1),
            valid_M=valid,
            exclusion=Exclusion(points, grid, radius),
        )
    centres = torch.full((len(cells), 2), torch.inf, dtype=torch.float64)
    centres[: grid.height * grid.width] = cell_centres(*grid).double()
    near = ((points[:, :, None] - centres) ** 2).sum(-1) <= radius**2
    usable = torch.ones(2, 1, len(cells), dtype=torch.bool) if valid is None else valid[:, None]
    products = queries.double() @ cells.double().T
    outside = products.masked_fill(near | ~usable, -torch.inf)
    inside = products.masked_fill(~near | ~usable, -torch.inf)
    torch.testing.assert_close(found.similarity_N.double(), outside.amax(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.inside_N.double(), inside.amax(2), atol=1e-6, rtol=0)
    chosen = outside.gather(2, found.index_N[..., None])[..., 0]
    exists = found.similarity_N > -torch.inf
    torch.testing.assert_close(chosen[exists], outside.amax(2)[exists], atol=1e-6, rtol=0)


def test_memory_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    queries, cells = unit(rng, 50, 8), unit(rng, 60_000, 8)
    monkeypatch.setattr(module, "pays_coarse_search", lambda queries, cells: False)
    monkeypatch.setattr(module, "CPU_TILE", 1 << 30)
    monkeypatch.setattr(module, "CPU_COLUMNS", 1 << 30)
    held = []
    argmax: Callable[[torch.Tensor], torch.Tensor] = module._argmax

    def record(tile: torch.Tensor) -> torch.Tensor:
        held.append(tile.nbytes)
        return argmax(tile)

    monkeypatch.setattr(module, "_argmax", record)
    small, large = (search(queries, cells, memory_mib=size) for size in (1, 512))
    assert 0 < max(held[:-1]) <= 2**20
    assert len(held) == 13 + 1
    assert torch.equal(small.index_N, large.index_N)


@pytest.mark.parametrize("shape", [(0, 4), (3, 5)])
def test_no_cells_or_other_descriptors_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot search"):
        search(torch.zeros(3, 4), torch.zeros(shape))
