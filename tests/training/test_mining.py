"""Mining against brute force in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ucn.matching.exclusion import excluded_cells, excluded_spans
from ucn.matching.features import Grid, cell_centres
from ucn.training.mining.hard import mine_hard
from ucn.training.mining.nearest import mine_nearest
from ucn.training.mining.random import mine_random

cases = st.builds(
    dict,
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    stride=st.sampled_from([1, 4, 8]),
    offset=st.sampled_from([0.0, 1.5, 2.0, 3.5]),
    radius=st.floats(0.5, 40),
    padded=st.booleans(),
    strangers=st.integers(0, 60),
)


def make_case(case: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Grid, torch.Tensor]:
    generator = torch.Generator().manual_seed(case["seed"])
    grid = Grid(case["height"], case["width"], case["stride"], case["offset"])
    num_cells = grid.height * grid.width + case["strangers"]
    queries = F.normalize(torch.randn(17, 6, generator=generator), dim=1)
    cells = F.normalize(torch.randn(num_cells, 6, generator=generator), dim=1)
    extent = torch.tensor([grid.width, grid.height]) * grid.stride
    points = torch.rand(17, 2, generator=generator) * extent
    valid = torch.ones(num_cells, dtype=torch.bool)
    if case["padded"]:
        valid = torch.rand(num_cells, generator=generator) < 0.7
    return queries, cells, points, grid, valid


def brute_force(queries, cells, points, grid, radius, valid):
    """Distances and allowed cells by definition, all in float64; rows beyond the grid are far."""
    y, x = np.mgrid[: grid.height, : grid.width].astype(np.float64)
    centres = np.full((len(cells), 2), np.inf)
    own = grid.height * grid.width
    centres[:own] = np.stack([x.ravel(), y.ravel()], axis=1) * grid.stride + grid.offset
    apart = ((points.double().numpy()[:, None] - centres) ** 2).sum(-1)
    outside = (apart > radius**2) & valid.numpy()
    inside = (apart <= radius**2) & valid.numpy()
    difference = queries.double().numpy()[:, None] - cells.double().numpy()
    return np.linalg.norm(difference, axis=-1), outside, inside


@settings(max_examples=120, deadline=None)
@given(cases)
def test_hard_negatives_are_those_of_brute_force(case: dict) -> None:
    queries, cells, points, grid, valid = make_case(case)
    found = mine_hard(queries, cells, points, grid, case["radius"], valid_M=valid)
    distance, outside, inside = brute_force(queries, cells, points, grid, case["radius"], valid)
    np.testing.assert_array_equal(found.valid_N.numpy(), outside.any(axis=1))
    assert (found.index_N[~found.valid_N] == 0).all()
    for row in np.flatnonzero(outside.any(axis=1)):
        index = int(found.index_N[row])
        assert outside[row, index]
        assert distance[row, index] == pytest.approx(distance[row, outside[row]].min(), abs=1e-6)
    nearest_in = np.where(inside, distance, np.inf).min(axis=1)
    nearest_out = np.where(outside, distance, np.inf).min(axis=1)
    clear = ~np.isclose(nearest_in, nearest_out, atol=1e-5)
    np.testing.assert_array_equal(found.hit_N.numpy()[clear], (nearest_in < nearest_out)[clear])


@settings(max_examples=120, deadline=None)
@given(cases)
def test_nearest_negatives_are_those_of_brute_force(case: dict) -> None:
    """The nearest of all valid cells, dropped if within the radius; the radius comes last."""
    queries, cells, points, grid, valid = make_case(case)
    found = mine_nearest(queries, cells, points, grid, case["radius"], valid_M=valid)
    distance, outside, inside = brute_force(queries, cells, points, grid, case["radius"], valid)
    either = np.where(outside | inside, distance, np.inf)
    nearest = either.argmin(axis=1)
    rows = np.arange(len(queries))
    first, second = np.partition(np.c_[either, np.full((17, 2), np.inf)], 1, axis=1)[:, :2].T
    clear = np.isfinite(first)
    clear[clear] = second[clear] - first[clear] > 1e-5
    is_negative = outside[rows, nearest]
    np.testing.assert_array_equal(found.valid_N.numpy()[clear], is_negative[clear])
    np.testing.assert_array_equal(found.hit_N.numpy()[clear], ~is_negative[clear])
    expected = np.where(is_negative, nearest, 0)
    np.testing.assert_array_equal(found.index_N.numpy()[clear], expected[clear])
    assert not found.valid_N.numpy()[~np.isfinite(first)].any()


def test_the_rules_of_the_paper_and_of_the_exact_search_differ_in_hits_alone() -> None:
    """Cells along a line, the feature of each turned by 10 degrees; radius of one cell."""
    grid = Grid(1, 10, 4, 0.0)
    angle = torch.arange(10) * torch.pi / 18
    cells = torch.stack([angle.cos(), angle.sin()], dim=1)
    # Features of cells 2 and 7, both said to lie at cell 2 (x = 8).
    queries, points = cells[[2, 7]], torch.tensor([[8.0, 0.0]] * 2)
    hard, nearest = (
        miner(queries, cells, points, grid, 4.0) for miner in (mine_hard, mine_nearest)
    )
    assert hard.index_N.tolist() in ([0, 7], [4, 7])
    assert nearest.index_N.tolist() == [0, 7]
    assert (hard.valid_N.tolist(), nearest.valid_N.tolist()) == ([True, True], [False, True])
    assert nearest.hit_N.tolist() == hard.hit_N.tolist() == [True, False]


@settings(max_examples=120, deadline=None)
@given(cases)
def test_random_negatives_are_valid_and_outside(case: dict) -> None:
    queries, cells, points, grid, valid = make_case(case)
    generator = torch.Generator().manual_seed(case["seed"])
    uniform = torch.rand(len(queries), generator=generator, dtype=torch.float64)
    found = mine_random(
        queries, cells, points, grid, case["radius"], valid_M=valid, uniform_N=uniform
    )
    hard = mine_hard(queries, cells, points, grid, case["radius"], valid_M=valid)
    assert torch.equal(found.hit_N, hard.hit_N)
    _, outside, _ = brute_force(queries, cells, points, grid, case["radius"], valid)
    np.testing.assert_array_equal(found.valid_N.numpy(), outside.any(axis=1))
    rows = np.flatnonzero(outside.any(axis=1))
    assert outside[rows, found.index_N.numpy()[rows]].all()


@settings(max_examples=40, deadline=None)
@given(cases)
def test_sets_are_mined_separately(case: dict) -> None:
    one, other = make_case(case), make_case(case | {"seed": case["seed"] // 2})
    uniform = torch.from_numpy(np.random.default_rng(case["seed"]).random((2, 17)))
    queries, cells, points, valid = (
        torch.stack([one[place], other[place]]) for place in (0, 1, 2, 4)
    )
    for miner in (mine_hard, mine_nearest, mine_random):
        found = miner(
            queries, cells, points, one[3], case["radius"], valid_M=valid, uniform_N=uniform
        )
        for number, (left, right, places, grid, usable) in enumerate((one, other)):
            alone = miner(
                left, right, places, grid, case["radius"],
                valid_M=usable, uniform_N=uniform[number],
            )  # fmt: skip
            for values, expected in zip(vars(found).values(), vars(alone).values(), strict=True):
                assert torch.equal(values[number], expected)


def test_random_negatives_are_uniform() -> None:
    """Over the image's cells and those of other images alike."""
    grid = Grid(5, 6, 4, 1.5)
    features = F.normalize(torch.ones(6000, 2), dim=1)
    points = torch.tensor([[9.0, 8.0]]).expand(6000, 2)
    valid = torch.ones(34, dtype=torch.bool)
    valid[[0, 17, 29, 31]] = False
    found = mine_random(
        features, features[:34], points, grid, 5.0,
        valid_M=valid, uniform_N=torch.from_numpy(np.random.default_rng(3).random(6000)),
    )  # fmt: skip
    _, outside, _ = brute_force(features[:1], features[:34], points[:1], grid, 5.0, valid)
    counts = np.bincount(found.index_N.numpy(), minlength=34)
    assert (counts[~outside[0]] == 0).all()
    expected = 6000 / outside.sum()
    assert ((counts[outside[0]] - expected) ** 2 / expected).sum() < 65  # chi^2, ~28 degrees


def test_radius_comes_before_the_argmin() -> None:
    """A query whose nearest feature is the right one still has a negative."""
    grid = Grid(1, 10, 4, 0.0)
    cells = F.normalize(torch.randn(10, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    found = mine_hard(cells[5:6], cells, torch.tensor([[20.0, 0.0]]), grid, 6.0)
    assert found.hit_N.all()
    assert found.valid_N.all()
    assert found.index_N[0] not in (4, 5, 6)


def test_a_nearer_cell_of_another_image_is_the_negative_and_no_hit() -> None:
    """Its row lies where the disc would be, were it one of the map's."""
    grid = Grid(2, 3, 4, 0.0)
    query = torch.tensor([[1.0, 0.0]])
    cells = F.normalize(torch.tensor([[0.0, 1.0]] * 5 + [[1.0, 0.1]] + [[1.0, 0.0]]), dim=1)
    points = torch.tensor([[8.0, 4.0]])
    draw = torch.tensor([0.5])
    for miner in (mine_hard, mine_random):
        assert miner(query, cells[:6], points, grid, 9.0, uniform_N=draw).hit_N.all()
        assert not miner(query, cells, points, grid, 9.0, uniform_N=draw).hit_N.any()
    assert mine_hard(query, cells, points, grid, 9.0).index_N == 6
    # The whole map lies within the radius: what is left is of the other image.
    assert mine_random(query, cells, points, grid, 99.0, uniform_N=draw).index_N == 6


def test_nothing_is_left_outside_the_radius() -> None:
    grid = Grid(2, 2, 4, 0.0)
    cells = F.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    found = mine_hard(cells[:3], cells, torch.zeros(3, 2), grid, 100.0)
    assert not found.valid_N.any()
    assert (found.index_N == 0).all()
    empty = mine_hard(cells[:0], cells, torch.zeros(0, 2), grid, 1.0)
    assert len(empty.index_N) == 0


@settings(max_examples=120, deadline=None)
@given(cases, st.sampled_from([None, 0.0, 0.5]))
def test_spans_are_the_excluded_cells(case: dict, fraction: float | None) -> None:
    _, _, points, grid, _ = make_case(case)
    radius = case["radius"]
    if fraction is not None:  # of a cell; then other cells lie on the border of the disc
        points = ((points / grid.stride).floor() + fraction) * grid.stride + grid.offset
        radius = (round(radius / grid.stride + 1) + fraction) * grid.stride
    index, inside = excluded_cells(points, grid, radius)
    top, spans = excluded_spans(points, grid, radius)
    for row in range(len(points)):
        listed = [
            cell
            for place, (start, stop) in enumerate(spans[row].tolist())
            for cell in range(start, stop)
            if cell // grid.width == top[row] + place
        ]
        assert listed == sorted(index[row, inside[row]].tolist())
        assert (spans[row, :, 1] - spans[row, :, 0]).sum() == len(listed)


def test_excluded_cells_include_the_border_of_the_disc() -> None:
    grid = Grid(9, 9, 4, 1.5)
    centre = cell_centres(9, 9, 4, 1.5)[40:41]
    index, inside = excluded_cells(centre, grid, 8.0)
    assert set(index[inside].tolist()) == {
        40, 39, 41, 38, 42, 31, 49, 22, 58, 30, 32, 48, 50,
    }  # fmt: skip
