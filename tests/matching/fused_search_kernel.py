"""The fused kernel against float64 brute force; `test_fused_search.py` runs this file.

On CUDA the compiled kernel runs, else Triton's interpreter.
"""

import pytest
import torch
from torch.nn import functional as F

from ucn.matching import search as search_module
from ucn.matching.exclusion import Exclusion
from ucn.matching.features import Grid
from ucn.matching.fused_search import fused_search
from ucn.matching.search import Found
from ucn.training.mining import hard

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CASES = [
    # queries, height, width, cells of other images, dimension, radius, padded
    (1, 1, 1, 0, 1, 3.0, False),
    (1, 3, 50, 0, 3, 8.0, False),
    (65, 20, 31, 0, 16, 6.0, True),
    (33, 20, 31, 50, 2, 8.0, True),
    (100, 17, 29, 333, 70, 12.0, False),
    (40, 25, 40, 201, 33, 5.5, True),
    (70, 6, 5, 0, 8, 1000.0, False),
    (10, 5, 7, 3, 8, 1000.0, True),
]


@pytest.mark.parametrize(
    ("queries", "height", "width", "others", "dimension", "radius", "padded"), CASES
)
def test_equal_to_brute_force(
    queries: int,
    height: int,
    width: int,
    others: int,
    dimension: int,
    radius: float,
    padded: bool,
) -> None:
    """Whole numbers make similarities exact and ties many: the lowest index must win them all."""
    generator = torch.Generator().manual_seed(queries)
    own, grid = height * width, Grid(height, width, 4, 1.5)
    left = torch.randint(-2, 3, (queries, dimension), generator=generator).double()
    right = torch.randint(-2, 3, (own + others, dimension), generator=generator).double()
    points = torch.rand(queries, 2, generator=generator) * torch.tensor([width, height]) * 4
    # At cells and half-way between two: other cells lie on the border of the disc.
    points[::3] = (points[::3] / 4).floor() * 4 + 1.5
    points[1::3] = (points[1::3] / 4).floor() * 4 + torch.tensor([1.5, 3.5])
    valid = torch.ones(own + others, dtype=torch.bool)
    if padded:
        valid = torch.rand(own + others, generator=generator) < 0.6

    cell = torch.arange(own)
    centres = torch.stack([cell % width, cell // width], dim=1).double() * 4 + 1.5
    near = torch.zeros(queries, own + others, dtype=torch.bool)
    near[:, :own] = (points.double()[:, None] - centres).square().sum(dim=-1) <= radius**2
    similarity = left @ right.T
    candidates = similarity.masked_fill(near | ~valid, -torch.inf)
    outside = candidates.amax(dim=1)
    lowest = (candidates == outside[:, None]).byte().argmax(dim=1)
    inside = similarity.masked_fill(~near | ~valid, -torch.inf).amax(dim=1)

    found = Found(
        *fused_search(
            left.to(DEVICE)[None],
            right.to(DEVICE)[None],
            valid.to(DEVICE)[None] if padded else None,
            Exclusion(points.to(DEVICE)[None], grid, radius),
        )
    )
    found = Found(*(values[0] for values in found))
    assert torch.equal(found.similarity_N.cpu().double(), outside)
    assert torch.equal(found.inside_N.cpu().double(), inside)
    exists = outside > -torch.inf
    assert torch.equal(found.index_N.cpu()[exists], lowest[exists])


def test_mining_is_that_of_the_plain_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit features, on which rounding differs: the same negatives, hits and similarities."""
    generator = torch.Generator().manual_seed(8)
    grid = Grid(24, 40, 4, 1.5)
    queries = torch.nn.functional.normalize(torch.randn(90, 64, generator=generator), dim=1)
    cells = torch.nn.functional.normalize(torch.randn(1000, 64, generator=generator), dim=1)
    points = torch.rand(90, 2, generator=generator) * torch.tensor([160.0, 96.0])
    valid = torch.rand(1000, generator=generator) < 0.7
    arguments = [t.to(DEVICE) for t in (queries, cells, points)]
    outcomes = []
    for is_fused in (False, True):
        monkeypatch.setattr(search_module, "has_fused_search", lambda device, f=is_fused: f)
        outcomes.append(hard.mine_hard(*arguments, grid, 8.0, valid_M=valid.to(DEVICE)))
    plain, fused = outcomes
    assert torch.equal(plain.index_N, fused.index_N)
    assert torch.equal(plain.valid_N, fused.valid_N)
    assert torch.equal(plain.hit_N, fused.hit_N)
    assert plain.valid_N.all()


def test_sets_are_searched_separately() -> None:
    generator = torch.Generator().manual_seed(11)
    grid = Grid(20, 40, 4, 1.5)
    queries = torch.randint(-2, 3, (3, 70, 20), generator=generator).float().to(DEVICE)
    cells = torch.randint(-2, 3, (3, 900, 20), generator=generator).float().to(DEVICE)
    points = torch.rand(3, 70, 2, generator=generator).to(DEVICE) * 100
    valid = (torch.rand(3, 900, generator=generator) < 0.6).to(DEVICE)
    found = fused_search(queries, cells, valid, Exclusion(points, grid, 9.0))
    for one in range(3):
        part = slice(one, one + 1)
        exclusion = Exclusion(points[part], grid, 9.0)
        alone = fused_search(queries[part], cells[part], valid[part], exclusion)
        assert all(torch.equal(a[part], b) for a, b in zip(found, alone, strict=True))


def test_repeated_searches_are_bit_equal() -> None:
    generator = torch.Generator().manual_seed(9)
    grid = Grid(30, 50, 4, 1.5)
    queries = torch.randn(1, 70, 20, generator=generator).to(DEVICE)
    cells = torch.randn(1, 1500, 20, generator=generator).to(DEVICE)
    points = torch.rand(1, 70, 2, generator=generator).to(DEVICE) * 100
    exclusion = Exclusion(points, grid, 9.0)
    first, again = (fused_search(queries, cells, None, exclusion) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_without_an_exclusion() -> None:
    generator = torch.Generator().manual_seed(10)
    queries = torch.randint(-2, 3, (3, 70, 20), generator=generator).float().to(DEVICE)
    cells = torch.randint(-2, 3, (3, 1500, 20), generator=generator).float().to(DEVICE)
    found = Found(*fused_search(queries, cells, None, None))
    products = queries @ cells.mT
    assert torch.equal(found.similarity_N, products.amax(dim=2))
    lowest = (products == products.amax(dim=2, keepdim=True)).byte().argmax(dim=2)
    assert torch.equal(found.index_N, lowest)
    assert (found.inside_N == -torch.inf).all()


@pytest.mark.parametrize("dimension", [64, 200])
def test_near_ties_are_resolved_as_in_float32(dimension: int) -> None:
    """The loss of similarity of the chosen cell is that of float32, not that of its halves."""
    generator = torch.Generator().manual_seed(dimension)
    mean, *offsets = torch.randn(1 + 700 + 60, dimension, generator=generator)
    rows = F.normalize(F.normalize(mean, dim=0) + 1e-3 * torch.stack(offsets), dim=1)
    cells, queries = rows[:700], rows[700:]
    exact = queries.double() @ cells.double().T

    def largest_loss(index: torch.Tensor) -> float:
        return float((exact.amax(dim=1) - exact.gather(1, index[:, None])[:, 0]).max())

    index, similarity, _ = fused_search(
        queries.to(DEVICE)[None], cells.to(DEVICE)[None], None, None
    )
    assert largest_loss(index[0].cpu()) < 3e-7
    assert (similarity[0].cpu() - exact.amax(dim=1)).abs().max() < 6e-7
    halves = (queries.half().double() @ cells.half().double().T).argmax(dim=1)
    assert largest_loss(halves) > 3e-6


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_descriptors_of_any_length(size: float) -> None:
    """Float16 ends at 65504 and loses digits below 6e-5: rows are scaled."""
    generator = torch.Generator().manual_seed(12)
    queries = torch.randn(1, 5, 16, generator=generator).to(DEVICE)
    cells = torch.randn(1, 90, 16, generator=generator).to(DEVICE)
    expected = (queries.double() @ cells.double().mT).max(dim=2)
    for scaled in ((queries * size, cells), (queries, cells * size)):
        index, similarity, _ = fused_search(*scaled, None, None)
        torch.testing.assert_close(similarity.double(), expected.values * size, rtol=1e-5, atol=0)
        assert torch.equal(index, expected.indices if size else torch.zeros_like(index))
