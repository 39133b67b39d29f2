"""Losses, with the miner before them, against their formulas in float64; and their gradients."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ucn.matching.features import Grid
from ucn.training.config import LossConfig
from ucn.training.losses.dual_softmax import dual_softmax_loss
from ucn.training.losses.terms import Directions
from ucn.training.mining.hard import mine_hard
from ucn.training.registry import LOSSES

GRID = Grid(4, 5, 4, 1.5)
NUM_CELLS = 20
CONFIG = LossConfig(margin=0.9, positive_margin=0.3, negative_margin=1.2, temperature=0.2)
HINGES = ("contrastive", "hardest_contrastive", "triplet")


@dataclass
class Pair:
    """One image pair: of both images features and places of the matches, cells, and padding."""

    sampled: list[torch.Tensor]
    points: list[torch.Tensor]
    cells: list[torch.Tensor]
    valid: list[torch.Tensor | None]
    radius: float

    def tensors(self) -> list[torch.Tensor]:
        return [*self.sampled, *self.cells]


def directions(*pairs: Pair) -> Directions:
    """Both directions of all pairs, mined; filled up with features that no loss may read."""
    most = max(len(pair.sampled[0]) for pair in pairs) + (len(pairs) > 1)
    radius, ways = pairs[0].radius, [(pair, side) for pair in pairs for side in (0, 1)]
    filler = F.normalize(torch.arange(1.0, 4).double(), dim=0)

    def fill(rows: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows, value.expand(most - len(rows), -1).to(rows)])

    queries = torch.stack([fill(pair.sampled[side], filler) for pair, side in ways])
    positives = torch.stack([fill(pair.sampled[1 - side], -filler) for pair, side in ways])
    points = torch.stack([fill(pair.points[1 - side], torch.zeros(2)) for pair, side in ways])
    cells = torch.stack([pair.cells[1 - side] for pair, side in ways])
    masks = [pair.valid[1 - side] for pair, side in ways]
    valid = None
    if any(mask is not None for mask in masks):
        whole = torch.ones(cells.shape[1], dtype=torch.bool)
        valid = torch.stack([whole if mask is None else mask for mask in masks])
    present = torch.stack([torch.arange(most) < len(pair.sampled[0]) for pair, _ in ways])
    negatives = mine_hard(queries.detach(), cells.detach(), points, GRID, radius, valid_M=valid)
    return Directions(
        queries, positives, points, present, cells, valid, GRID, radius, negatives, queries.dtype
    )


def make_pair(
    seed: int, count: int, radius: float = 5.0, padded: bool = False, strangers: int = 0
) -> Pair:
    generator = torch.Generator().manual_seed(seed)

    def unit(rows: int) -> torch.Tensor:
        features = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
        return F.normalize(features, dim=1).requires_grad_()

    total = NUM_CELLS + strangers
    return Pair(
        sampled=[unit(count), unit(count)],
        points=[torch.rand(count, 2, generator=generator) * 16 for _ in range(2)],
        cells=[unit(total), unit(total)],
        valid=[torch.rand(total, generator=generator) < 0.6 if padded else None for _ in range(2)],
        radius=radius,
    )


def one_ways(pair: Pair) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, list[list[int]]]]:
    """Queries, positives and cells of both directions, and the cells that are wrong for each."""
    ways = []
    for here in range(2):
        there = 1 - here
        wrong: list[list[int]] = []
        for point in pair.points[there].double().tolist():
            wrong.append([])
            for cell in range(len(pair.cells[there])):
                valid = pair.valid[there] is None or bool(pair.valid[there][cell])
                centre = cell % 5 * 4 + 1.5, cell // 5 * 4 + 1.5
                if valid and (cell >= NUM_CELLS or math.dist(centre, point) > pair.radius):
                    wrong[-1].append(cell)
        features = pair.sampled[here], pair.sampled[there], pair.cells[there]
        ways.append((*(tensor.detach().numpy() for tensor in features), wrong))
    return ways


def hinge_distances(pair: Pair) -> list[list[tuple[float, float | None]]]:
    """For each direction and query the distance to its positive and to its hardest negative."""
    return [
        [
            (
                math.dist(queries[i], positives[i]),
                min((math.dist(queries[i], cells[j]) for j in wrong[i]), default=None),
            )
            for i in range(len(queries))
        ]
        for queries, positives, cells, wrong in one_ways(pair)
    ]


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def contrastive(pair: Pair) -> float:
    ways = hinge_distances(pair)
    terms = [positive**2 for positive, _ in ways[0]]
    terms += [max(0, CONFIG.margin - d) ** 2 for way in ways for _, d in way if d is not None]
    return mean(terms) / 2


def hardest_contrastive(pair: Pair) -> float:
    ways = hinge_distances(pair)
    positives = [max(0, d**2 - CONFIG.positive_margin) for d, _ in ways[0]]
    negatives = [
        mean([max(0, CONFIG.negative_margin - d) ** 2 for _, d in way if d is not None])
        for way in ways
    ]
    return mean(positives) + (negatives[0] + negatives[1]) / 2


def triplet(pair: Pair) -> float:
    return mean(
        [
            max(0, positive - negative + CONFIG.margin)
            for way in hinge_distances(pair)
            for positive, negative in way
            if negative is not None
        ]
    )


def infonce(pair: Pair) -> float:
    terms = []
    for queries, positives, cells, wrong in one_ways(pair):
        for i in range(len(queries)):
            right = math.exp(queries[i] @ positives[i] / CONFIG.temperature)
            others = (math.exp(queries[i] @ cells[j] / CONFIG.temperature) for j in wrong[i])
            terms.append(-math.log(right / (right + sum(others))))
    return mean(terms)


def dual_softmax(pair: Pair) -> float:
    a, b = (tensor.detach().numpy() for tensor in pair.sampled)
    exponentials = np.exp(a @ b.T / CONFIG.temperature)
    points0, points1 = (points.double().tolist() for points in pair.points)
    terms = []
    for i in range(len(a)):
        row = column = exponentials[i, i]
        for j in range(len(a)):
            if math.dist(points1[i], points1[j]) > pair.radius:
                row += exponentials[i, j]
            if math.dist(points0[i], points0[j]) > pair.radius:
                column += exponentials[j, i]
        terms += [math.log(row / exponentials[i, i]), math.log(column / exponentials[i, i])]
    return mean(terms)


FORMULAS: dict[str, Callable[[Pair], float]] = {
    "contrastive": contrastive,
    "hardest_contrastive": hardest_contrastive,
    "triplet": triplet,
    "infonce": infonce,
    "dual_softmax": dual_softmax,
}


@pytest.mark.parametrize("name", LOSSES.builtin)
@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 9),
    st.floats(1, 40),
    st.booleans(),
    st.integers(0, 5),
)
def test_equal_to_the_formula(
    name: str, seed: int, count: int, radius: float, padded: bool, strangers: int
) -> None:
    pair = make_pair(seed, count, radius, padded, strangers)
    loss = LOSSES.load(name)(directions(pair), CONFIG)
    assert loss.item() == pytest.approx(FORMULAS[name](pair), abs=1e-6)


@pytest.mark.parametrize("name", LOSSES.builtin)
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 7), min_size=2, max_size=4))
def test_pairs_of_different_sizes_are_independent(name: str, seed: int, counts: list[int]) -> None:
    """Values and gradients of a batch are those of each pair alone."""
    pairs = [make_pair(seed + i, n, 5.0, i % 2 == 0, 2) for i, n in enumerate(counts)]
    together = LOSSES.load(name)(directions(*pairs), CONFIG)
    weights = torch.arange(1.0, len(pairs) + 1).double()
    leaves = [leaf for pair in pairs for leaf in pair.tensors()]
    gradients = torch.autograd.grad((together * weights).sum(), leaves, materialize_grads=True)
    alone = torch.cat([LOSSES.load(name)(directions(pair), CONFIG) for pair in pairs])
    expected = torch.autograd.grad((alone * weights).sum(), leaves, materialize_grads=True)
    assert together.tolist() == pytest.approx([FORMULAS[name](pair) for pair in pairs], abs=1e-6)
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES.builtin)
def test_gradients(name: str) -> None:
    pair = make_pair(11, 6, padded=True, strangers=3)
    mined = directions(pair)

    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        a, b, cells0, cells1 = tensors
        tensors_of = replace(
            mined,
            queries_BND=torch.stack([a, b]),
            positives_BND=torch.stack([b, a]),
            cells_BMD=torch.stack([cells1, cells0]),
        )
        return LOSSES.load(name)(tensors_of, CONFIG)

    assert torch.autograd.gradcheck(loss, pair.tensors())


def coincident(pair: Pair) -> Pair:
    """All features equal."""
    rows = F.normalize(torch.ones(64, 3), dim=1)
    pair.sampled = [rows[: len(t)].clone().requires_grad_() for t in pair.sampled]
    pair.cells = [rows[: len(t)].clone().requires_grad_() for t in pair.cells]
    return pair


def all_padding(pair: Pair) -> Pair:
    pair.valid = [torch.zeros(len(cells), dtype=torch.bool) for cells in pair.cells]
    return pair


@pytest.mark.parametrize("name", LOSSES.builtin)
@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(make_pair(2, 0), id="no correspondences"),
        pytest.param(make_pair(2, 1), id="one correspondence"),
        pytest.param(make_pair(2, 4, 1000.0), id="no negatives"),
        pytest.param(all_padding(make_pair(2, 4, strangers=2)), id="all padding"),
        pytest.param(coincident(make_pair(2, 5, strangers=2)), id="coincident features"),
    ],
)
def test_value_and_gradient_are_finite(name: str, pair: Pair) -> None:
    loss = LOSSES.load(name)(directions(pair), CONFIG)
    gradients = torch.autograd.grad(loss, pair.tensors(), allow_unused=True)
    assert loss.isfinite()
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)
    assert loss.item() == pytest.approx(FORMULAS[name](pair), abs=1e-5)


@pytest.mark.parametrize("name", LOSSES.builtin)
def test_gradients_reach_the_winners_only(name: str) -> None:
    pair = make_pair(4, 6, 6.0, padded=True, strangers=2)
    mined = directions(pair)
    loss = LOSSES.load(name)(mined, replace_margins(2.0))
    gradients = torch.autograd.grad(loss, pair.cells, allow_unused=True)
    for row, (way, gradient) in enumerate(zip(one_ways(pair), gradients[::-1], strict=True)):
        reached = torch.zeros(mined.cells_BMD.shape[1], dtype=torch.bool)
        if name in HINGES:
            reached[mined.negatives.index_N[row, mined.negatives.valid_N[row]]] = True
        elif name == "infonce":
            reached[sorted(set().union(*way[3]))] = True
        touched = torch.zeros_like(reached) if gradient is None else (gradient != 0).any(dim=1)
        assert torch.equal(touched, reached)
        assert not reached.all()


def replace_margins(margin: float) -> LossConfig:
    return CONFIG.model_copy(update={"margin": margin, "negative_margin": margin})


@pytest.mark.parametrize("name", ["triplet", "infonce"])
def test_a_query_without_negatives_gets_no_gradient(name: str) -> None:
    pair = make_pair(5, 3, radius=7.0)
    pair.points = [torch.tensor([[1.0, 1.0], [1.0, 3.0], [17.0, 13.0]])] * 2
    pair.valid = [torch.arange(NUM_CELLS) < 1] * 2  # the cell in the corner, near two points
    LOSSES.load(name)(directions(pair), replace_margins(2.0)).backward()
    for features in pair.sampled:
        assert features.grad is not None
        assert (features.grad[:2] == 0).all()
        assert (features.grad[2] != 0).any()


@pytest.mark.parametrize("name", HINGES)
def test_zero_at_the_optimum(name: str) -> None:
    """Positives coincide, negatives are opposite: value and gradient vanish exactly."""
    pair = make_pair(6, 5)
    pole = F.normalize(torch.tensor([[1.0, 2.0, 2.0]]), dim=1)
    pair.sampled = [pole.repeat(5, 1).requires_grad_() for _ in range(2)]
    pair.cells = [-pole.repeat(NUM_CELLS, 1).requires_grad_() for _ in range(2)]
    loss = LOSSES.load(name)(directions(pair), CONFIG)
    loss.backward()
    assert loss.item() == 0
    assert all((features.grad == 0).all() for features in pair.sampled)


@pytest.mark.parametrize(("radius", "expected"), [(1.0, math.log(5)), (1000.0, 0.0)])
def test_dual_softmax_of_equal_features(radius: float, expected: float) -> None:
    pair = coincident(make_pair(7, 5, radius))
    pair.points = [torch.arange(10.0).reshape(5, 2)] * 2
    assert dual_softmax_loss(directions(pair), CONFIG).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES.builtin)
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(7)))
def test_order_of_correspondences_does_not_matter(name: str, seed: int, order: list[int]) -> None:
    pair = make_pair(seed, 7, padded=True, strangers=2)
    shuffled = replace(
        pair,
        sampled=[features[order] for features in pair.sampled],
        points=[points[order] for points in pair.points],
    )
    losses = [LOSSES.load(name)(directions(each), CONFIG) for each in (pair, shuffled)]
    torch.testing.assert_close(*losses)


def test_equal_features_of_a_negative_give_a_gradient_of_zero() -> None:
    pair = coincident(make_pair(8, 1))
    mined = directions(pair)
    loss = LOSSES.load("contrastive")(mined, LossConfig(margin=1.0))
    loss.backward()
    assert loss.item() == pytest.approx(1 / 3)  # terms 0, 1 and 1, N = 3
    assert all((features.grad == 0).all() for features in pair.sampled)


@pytest.mark.parametrize("temperature", [0.07, 0.02])
def test_infonce_in_bfloat16_is_within_its_tolerance(temperature: float) -> None:
    """Of unit features as a network gives them: smooth, with near ties at the right cell."""
    rng = np.random.default_rng(int(1000 * temperature))
    maps = torch.from_numpy(rng.standard_normal((2, 32, 6, 8)))
    maps = F.normalize(F.interpolate(maps, size=(40, 60), mode="bicubic"), dim=1)
    cells = maps.flatten(2).mT
    grid = Grid(40, 60, 4, 1.5)
    cell = torch.from_numpy(rng.integers(0, 2400, (2, 150)))
    points = torch.stack([cell % 60, cell // 60], dim=2) * 4 + 1.5
    right = cells.gather(1, cell[..., None].expand(-1, -1, 32))
    noise = torch.from_numpy(rng.standard_normal((2, 2, 150, 32)))
    queries, positives = F.normalize(right + 0.05 * noise, dim=3)
    config = LossConfig(name="infonce", temperature=temperature)
    found = []
    for dtype, product_dtype in (
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float32, torch.bfloat16),
    ):
        leaves = [x.to(dtype, copy=True).requires_grad_() for x in (queries, positives, cells)]
        present = torch.ones(2, 150, dtype=torch.bool)
        negatives = mine_hard(leaves[0].detach(), leaves[2].detach(), points, grid, 6.0)
        ways = Directions(
            *leaves[:2], points, present, leaves[2], None, grid, 6.0, negatives, product_dtype
        )
        loss = LOSSES.load("infonce")(ways, config)
        gradients = torch.autograd.grad(loss.sum(), leaves)
        found.append((loss.double().detach(), [g.double() for g in gradients]))
    (loss, gradients), single, half = found
    larger = 0.07 / temperature
    for (other, others), absolute, relative in (
        (single, 1e-5, 1e-5),
        (half, 0.01 * larger, 0.02 * larger),
    ):
        assert (other - loss).abs().max() < absolute
        for gradient, expected in zip(others, gradients, strict=True):
            assert (gradient - expected).norm() < relative * expected.norm()
    assert not torch.equal(single[0], half[0])
