import logging
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.pool import next_task, pool_size, split_tasks


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


def size(resources: dict[str, float], *, cluster: bool = False, **options: Any) -> Any:
    config = EvaluateConfig.model_validate({"shards": ("x",), **options})
    return pool_size(config, 100, resources, nodes_may_come=cluster)


@pytest.mark.parametrize(
    ("resources", "options", "expected"),
    [
        ({"CPU": 4}, {}, (4, 0)),
        ({"CPU": 4}, {"workers": 2}, (2, 0)),
        ({"CPU": 4}, {"workers": 9}, (4, 0)),
        ({"CPU": 400}, {}, (100, 0)),
        ({"CPU": 16, "GPU": 1}, {}, (4, 1 / 4)),
        ({"CPU": 16, "GPU": 1}, {"device": "cpu"}, (16, 0)),
        ({"CPU": 2, "GPU": 1}, {}, (2, 1 / 2)),
        ({"CPU": 64, "GPU": 8}, {}, (32, 1 / 4)),
        # As few as there are GPUs do not share one.
        ({"CPU": 64, "GPU": 8}, {"workers": 8}, (8, 1)),
        ({"CPU": 64, "GPU": 8}, {"workers": 9}, (9, 1 / 2)),
        ({"CPU": 64, "GPU": 8}, {"workers_per_gpu": 1}, (8, 1)),
    ],
)
def test_workers_and_the_gpus_of_each(
    resources: dict[str, float], options: dict[str, Any], expected: tuple[int, float]
) -> None:
    count, gpus = size(resources, **options)
    assert (count, gpus) == expected
    assert count * gpus <= resources.get("GPU", 0)


@pytest.mark.parametrize(
    ("resources", "options", "expected"),
    [
        ({"CPU": 4}, {"workers": 9}, (9, 0)),
        ({"CPU": 4}, {"workers": 8, "device": "cuda"}, (8, 1 / 4)),
        ({"CPU": 4}, {"device": "cuda"}, (4, 1 / 4)),
        ({"CPU": 64, "GPU": 1}, {"workers": 8}, (8, 1 / 4)),
        ({}, {"workers": 2}, (2, 0)),
    ],
)
def test_a_cluster_is_waited_for_with_a_warning(
    resources: dict[str, float],
    options: dict[str, Any],
    expected: tuple[int, float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert size(resources, cluster=True, **options) == expected
    assert len(caplog.messages) == 1
    assert "waiting for more" in caplog.messages[0]


def test_gpus_that_never_come_are_refused() -> None:
    with pytest.raises(UserError, match="device: cuda, but Ray has no GPU; set device to cpu"):
        size({"CPU": 4}, device="cuda")
