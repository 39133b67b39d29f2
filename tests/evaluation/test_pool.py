from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ucn.evaluation.pool import next_task, split_tasks


@given(st.integers(0, 40), st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_task_is_done_once_whoever_is_idle(tasks, workers, random) -> None:
    shares = split_tasks(range(tasks), workers)
    done = [next_task(shares, random.randrange(workers)) for _ in range(tasks)]
    assert sorted(done) == list(range(tasks))
    assert not any(shares)


@given(st.integers(1, 40), st.integers(1, 6))
def test_equally_fast_workers_get_consecutive_tasks(tasks: int, workers: int) -> None:
    shares = split_tasks(range(tasks), workers)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    by_worker = [[] for _ in range(workers)]
    for turn in range(tasks):
        by_worker[turn % workers].append(next_task(shares, turn % workers))
    breaks = sum(b - a != 1 for one in by_worker for a, b in pairwise(one))
    assert breaks <= workers


def test_an_idle_worker_takes_over_from_the_slowest() -> None:
    shares = split_tasks(range(8), 2)
    assert [next_task(shares, 1) for _ in range(6)] == [4, 5, 6, 7, 3, 2]
    assert [next_task(shares, 0) for _ in range(2)] == [0, 1]
