"""Losses against their formulas in float64, and their gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from training.config import LossConfig
from training.losses import LOSSES
from training.losses.contrastive import contrastive_loss
from training.losses.infonce import infonce_loss
from training.losses.terms import Direction
from training.mining.exclusion import Grid, Negatives
from training.mining.hard import mine_hard

GRID = Grid(4, 5, 4, 1.5)


def make_direction(seed: int, count: int, radius: float = 5.0, padded: bool = False) -> Direction:
    generator = torch.Generator().manual_seed(seed)

    def unit(rows: int) -> torch.Tensor:
        features = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
        return F.normalize(features, dim=1).requires_grad_()

    queries, positives, cells = unit(count), unit(count), unit(20)
    points = torch.rand(count, 2, generator=generator) * 16
    valid = torch.rand(20, generator=generator) < 0.6 if padded else None
    negatives = mine_hard(queries.detach(), cells.detach(), points, GRID, radius, valid_M=valid)
    return Direction(queries, positives, points, cells, valid, GRID, radius, negatives)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 12),
    st.floats(1, 40),
    st.floats(0.1, 2),
    st.booleans(),
)
def test_contrastive_is_equation_one(
    seed: int, count: int, radius: float, margin: float, padded: bool
) -> None:
    directions = [make_direction(seed + place, count, radius, padded) for place in range(2)]
    loss = contrastive_loss(directions, LossConfig(margin=margin))
    terms = []
    first = directions[0]
    for a, b in zip(first.queries_ND.tolist(), first.positives_ND.tolist(), strict=True):
        terms.append(math.dist(a, b) ** 2)
    for direction in directions:
        for row in range(count):
            if direction.negatives.valid_N[row]:
                wrong = direction.cells_MD[direction.negatives.index_N[row]].tolist()
                apart = math.dist(direction.queries_ND[row].tolist(), wrong)
                terms.append(max(0.0, margin - apart) ** 2)
    expected = sum(terms) / (2 * len(terms)) if terms else 0.0
    assert loss.item() == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.floats(1, 40), st.booleans())
def test_infonce_is_cross_entropy_over_the_cells_outside(
    seed: int, count: int, radius: float, padded: bool
) -> None:
    direction = make_direction(seed, count, radius, padded)
    loss = infonce_loss([direction], LossConfig(temperature=0.2))
    expected = []
    for row in range(count):
        query = direction.queries_ND[row].detach().numpy()
        right = math.exp(query @ direction.positives_ND[row].detach().numpy() / 0.2)
        total = right
        for cell in range(20):
            centre = np.array([cell % 5, cell // 5]) * 4 + 1.5
            far = math.dist(centre, direction.points_N2[row].double().tolist()) > radius
            if far and (direction.valid_M is None or direction.valid_M[cell]):
                total += math.exp(query @ direction.cells_MD[cell].detach().numpy() / 0.2)
        expected.append(-math.log(right / total))
    assert loss.item() == pytest.approx(np.mean(expected) if expected else 0.0, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name: str) -> None:
    direction = make_direction(11, 6)

    def loss(queries: torch.Tensor, positives: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        again = Direction(
            queries, positives, direction.points_N2, cells, None, GRID, 5.0, direction.negatives
        )
        return LOSSES[name]([again], LossConfig(margin=1.3, temperature=0.5))

    inputs = (direction.queries_ND, direction.positives_ND, direction.cells_MD)
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("count", "radius"), [(0, 5.0), (4, 1000.0)])
def test_without_negatives_there_is_no_nan(name: str, count: int, radius: float) -> None:
    direction = make_direction(2, count, radius)
    loss = LOSSES[name]([direction], LossConfig())
    loss.backward()
    assert loss.isfinite()
    gradients = [direction.queries_ND.grad, direction.positives_ND.grad]
    assert all(g is None or g.isfinite().all() for g in gradients)


def test_equal_features_of_a_negative_give_a_finite_gradient() -> None:
    queries = F.normalize(torch.ones(1, 3), dim=1).requires_grad_()
    cells = queries.detach().repeat(20, 1)
    negatives = Negatives(torch.tensor([7]), torch.tensor([True]), torch.tensor([False]))
    direction = Direction(queries, queries, torch.zeros(1, 2), cells, None, GRID, 5.0, negatives)
    loss = contrastive_loss([direction], LossConfig(margin=1.0))
    loss.backward()
    assert loss.item() == pytest.approx(0.25, abs=1e-5)  # terms 0 and 1, N = 2
    assert queries.grad is not None
    assert queries.grad.isfinite().all()
