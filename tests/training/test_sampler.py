"""The sampler: the same stream of samples however many workers share it."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.errors import UserError
from ucn.training.data.sampler import BLOCK, Draw, Sampler, take_groups

worlds = st.tuples(st.integers(1, 60), st.integers(1, 4), st.integers(1, 6), st.integers(0, 9))


def stream(sampler: Sampler, steps: int) -> list[Draw]:
    return list(chain.from_iterable(sampler.batch(step) for step in range(steps)))


@given(worlds)
def test_every_sample_once_an_epoch_without_a_gap(world) -> None:
    num_samples, group_size, num_groups, seed = world
    batch_size = group_size * num_groups
    draws = stream(Sampler((num_samples,), batch_size, seed), -(-2 * num_samples // batch_size))
    for epoch in (0, 1):
        part = draws[epoch * num_samples : (epoch + 1) * num_samples]
        assert {draw.epoch for draw in part} == {epoch}
        assert sorted(draw.sample for draw in part) == list(range(num_samples))


@given(worlds, st.integers(0, 200), st.integers(1, 6))
def test_workers_share_each_batch_by_whole_groups(world, step: int, world_size: int) -> None:
    num_samples, group_size, num_groups, seed = world
    batch = Sampler((num_samples,), group_size * num_groups, seed).batch(step)
    parts = [take_groups(batch, group_size, rank, world_size) for rank in range(world_size)]
    groups = [group for part in parts for group in part]
    assert all(len(group) == group_size for group in groups)
    in_order = [batch[i : i + group_size] for i in range(0, len(batch), group_size)]
    assert sorted(groups) == sorted(in_order)
    counts = [len(part) for part in parts]
    assert max(counts) - min(counts) <= 1


def test_epochs_and_seeds_differ() -> None:
    first, second = Sampler((50,), 50, 0).batch(0), Sampler((50,), 50, 0).batch(1)
    assert [draw.sample for draw in first] != [draw.sample for draw in second]
    assert Sampler((50,), 50, 1).batch(0) != first
    expected = np.random.default_rng([0, 0, 1]).permutation(50).tolist()
    assert [draw.sample for draw in second] == expected


def test_without_weights_all_samples_of_all_datasets_are_equal() -> None:
    assert stream(Sampler((7, 3), 2, 5), 5) == stream(Sampler((10,), 2, 5), 5)


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.data(),
    st.integers(0, 3),
)
def test_weights_give_exact_shares_and_whole_epochs(sizes, data, seed: int) -> None:
    weights = tuple(data.draw(st.floats(0.1, 10)) for _ in sizes)
    draws = stream(Sampler(tuple(sizes), 8, seed, weights), 2 * BLOCK // 8)
    starts = np.cumsum([0, *sizes])
    which = [int(np.searchsorted(starts, draw.sample, side="right")) - 1 for draw in draws]
    for block in (which[:BLOCK], which[BLOCK:]):
        shares = np.bincount(block, minlength=len(sizes)) / BLOCK
        exact = np.array(weights) / sum(weights)
        assert np.abs(shares - exact).max() < 1 / BLOCK + 1e-12
    for dataset, size in enumerate(sizes):
        own = [draw for draw, one in zip(draws, which, strict=True) if one == dataset]
        epochs = Counter(draw.epoch for draw in own)
        last = max(epochs)
        assert all(epochs[epoch] == size for epoch in range(last))
        for epoch in range(last):
            seen = {draw.sample for draw in own if draw.epoch == epoch}
            assert seen == set(range(starts[dataset], starts[dataset] + size))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.shards: hold no samples"):
        Sampler((0,), 4, 0)
    with pytest.raises(UserError, match=r"data\.weights: 1 for 2 shards"):
        Sampler((3, 4), 4, 0, (1.0,))
    with pytest.raises(UserError, match=r"data\.weights: 0\.0001 is below a thousandth"):
        Sampler((3, 4), 4, 0, (1.0, 1e-4))
