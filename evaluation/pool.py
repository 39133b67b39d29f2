"""The pool of worker processes of an evaluation, on Ray."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from ucn.cluster.session import ray_session
from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import named_external, named_models
from ucn.evaluation.worker import PairWorker
from ucn.storage.stores import absolute_uri
from ucn.training.model import model_place

Task = TypeVar("Task")


@contextmanager
def worker_pool(config: EvaluateConfig, num_tasks: int) -> Iterator[list[Any]]:
    """Starts the workers. Each processes one task at a time and is restarted if it dies."""
    with ray_session(config.workers or None):
        import ray

        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        limit = int(resources.get("CPU", 1))
        if config.device == "cuda":
            limit = min(limit, int(resources.get("GPU", 0)))
            if limit == 0:
                raise UserError("--device cuda: Ray has no GPU; use --device cpu")
        remote = ray.remote(PairWorker).options(
            num_cpus=1,
            num_gpus=1 if config.device == "cuda" else 0,
            max_restarts=3,
            max_task_retries=3,
        )
        shards = [absolute_uri(uri) for uri in config.shards]
        models = tuple(f"{name}={model_place(place)}" for name, place in named_models(config.model))
        external = tuple(f"{name}={path.resolve()}" for name, path in named_external(config))
        absolute = config.model_copy(update={"model": models, "external": external})
        count = max(1, min(config.workers or limit, limit, num_tasks))
        workers = [remote.remote(absolute, shards) for _ in range(count)]
        try:
            yield workers
        finally:
            for worker in workers:
                ray.kill(worker)  # type: ignore[arg-type]


def spread(
    workers: Sequence[Any],
    method: str,
    tasks: Sequence[Task],
    arguments: Callable[[Task], tuple[Any, ...]],
    total: int,
) -> Iterator[tuple[Task, Any]]:
    """Calls one method of the workers for every task, and shows a progress bar.

    Consecutive tasks go to the same worker as far as possible, since they share images.

    Args:
        workers: workers of :func:`worker_pool`.
        method: name of the method.
        tasks: the tasks.
        arguments: arguments of the call for a task.
        total: total number of tasks, including those finished before.

    Yields:
        Each task and its result, as soon as it is available.

    Raises:
        UserError: a worker raised it.
    """
    import ray

    if not tasks:
        return
    shares = split_tasks(tasks, len(workers))
    running: dict[Any, tuple[int, Task]] = {}

    def start(worker: int) -> None:
        if any(shares):
            task = next_task(shares, worker)
            call = getattr(workers[worker], method).remote(*arguments(task))
            running[call] = worker, task

    for worker in range(len(workers)):
        start(worker)
    initial = total - len(tasks)
    with tqdm(total=total, initial=initial, desc=method, unit="pair", mininterval=1.0) as bar:
        while running:
            (call,), _ = ray.wait(list(running), num_returns=1)
            worker, task = running.pop(call)
            try:
                result = ray.get(call)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                raise
            start(worker)
            bar.update()
            yield task, result


def split_tasks(tasks: Sequence[Task], workers: int) -> list[deque[Task]]:
    """Splits the tasks into one block of consecutive tasks per worker, of nearly equal length."""
    ends = np.linspace(0, len(tasks), workers + 1).astype(int)
    return [deque(tasks[start:end]) for start, end in pairwise(ends)]


def next_task(shares: Sequence[deque[Task]], worker: int) -> Task:
    """Takes the next task of a worker's share; else the last one of the longest share."""
    return shares[worker].popleft() if shares[worker] else max(shares, key=len).pop()
