"""The sampler: the same global batches however many workers share them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.errors import UserError
from training.sampler import Sampler

worlds = st.tuples(
    st.integers(1, 60), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9)
).filter(lambda w: w[0] >= w[1] * w[2])


@given(worlds)
def test_every_sample_at_most_once_an_epoch_and_none_shared(world) -> None:
    num_samples, share, world_size, seed = world
    batch_size = share * world_size
    ranks = [Sampler(num_samples, batch_size, seed, r, world_size) for r in range(world_size)]
    steps = ranks[0].steps_per_epoch
    seen = [i for step in range(steps) for rank in ranks for i in rank.batch(step)[1]]
    assert len(seen) == len(set(seen)) == num_samples - num_samples % batch_size
    assert set(seen) <= set(range(num_samples))
    assert {rank.batch(steps)[0] for rank in ranks} == {1}


@given(worlds, st.integers(0, 200))
def test_global_batches_do_not_depend_on_the_workers(world, step: int) -> None:
    num_samples, share, world_size, seed = world
    batch_size = share * world_size
    alone = Sampler(num_samples, batch_size, seed).batch(step)
    parts = [Sampler(num_samples, batch_size, seed, r, world_size) for r in range(world_size)]
    assert [i for part in parts for i in part.batch(step)[1]] == alone[1]
    assert all(len(part.batch(step)[1]) == share for part in parts)


def test_epochs_and_seeds_differ() -> None:
    first, second = Sampler(50, 50, 0).batch(0)[1], Sampler(50, 50, 0).batch(1)[1]
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert Sampler(50, 50, 1).batch(0)[1] != first
    expected = np.random.default_rng([0, 1]).permutation(50).tolist()
    assert second == expected


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(UserError, match=r"batch_size.*hold 3"):
        Sampler(3, 4, 0)
    with pytest.raises(ValueError, match="workers"):
        Sampler(10, 5, 0, 0, 2)
