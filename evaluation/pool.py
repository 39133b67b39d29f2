"""The pool of worker processes of an evaluation, on Ray."""

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from ucn.notice import notice
from ucn.storage.stores import absolute_uri
from ucn.training.device import cluster_cuda_error, use_gpus
from ucn.training.model import model_place

Task = TypeVar("Task")


logger = logging.getLogger(__name__)


def pool_size(
    config: EvaluateConfig,
    num_tasks: int,
    resources: Mapping[str, float],
    *,
    nodes_may_come: bool,
    gpu_error: str = "",
) -> tuple[int, float]:
    """Chooses the number of workers, and the GPUs of each (0 on CPUs).

    Args:
        config: configuration of the evaluation.
        num_tasks: number of tasks; more workers would have nothing to do.
        resources: ``CPU`` and ``GPU`` of all nodes that are up.
        nodes_may_come: whether Ray is a cluster, where workers wait for nodes with a warning.
        gpu_error: why PyTorch cannot use the GPUs; empty if it can.

    Raises:
        UserError: `device` is `cuda`, and there are no usable GPUs and none will come.
    """
    gpus, room = resources.get("GPU", 0), int(resources.get("CPU", 1))
    use_gpu = use_gpus(config.device, gpus, gpu_error)
    if use_gpu:
        room = min(room, int(gpus * config.workers_per_gpu))
        if not room and not nodes_may_come:
            raise UserError("device: cuda, but Ray has no GPU; set device to cpu")
    wanted = config.workers or room or config.workers_per_gpu
    count = max(1, min(wanted, num_tasks))
    if count > room and nodes_may_come:
        logger.warning("workers: %d, but Ray has room for %d; waiting for more", count, room)
    else:
        count = max(1, min(count, room))
    sharing = min(config.workers_per_gpu, math.ceil(count / max(1, gpus)))
    return count, 1 / sharing if use_gpu else 0


@contextmanager
def worker_pool(config: EvaluateConfig, num_tasks: int) -> Iterator[list[Any]]:
    """Starts the workers. Each processes one task at a time and is restarted if it dies."""
    with ray_session(config.workers or None):
        import ray

        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        count, gpus = pool_size(
            config,
            num_tasks,
            resources,
            nodes_may_come=bool(os.environ.get("RAY_ADDRESS")),
            gpu_error="" if config.device == "cpu" else cluster_cuda_error(),
        )
        remote = ray.remote(PairWorker).options(
            num_cpus=1, num_gpus=gpus, max_restarts=3, max_task_retries=3
        )
        shards = [absolute_uri(uri) for uri in config.shards]
        models = tuple(f"{name}={model_place(place)}" for name, place in named_models(config.model))
        external = tuple(f"{name}={path.resolve()}" for name, path in named_external(config))
        device = "cuda" if gpus else "cpu"
        absolute = config.model_copy(
            update={"model": models, "external": external, "device": device}
        )
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
    # A worker gets tasks once it is up. So tasks do not wait for workers that wait for nodes.
    running: dict[Any, tuple[int, Task | None]] = {
        worker.__ray_ready__.remote(): (number, None) for number, worker in enumerate(workers)
    }
    left = len(tasks)
    with notice("starting the workers"):
        ray.wait(list(running), num_returns=1)

    def start(worker: int) -> None:
        if any(shares):
            task = next_task(shares, worker)
            call = getattr(workers[worker], method).remote(*arguments(task))
            running[call] = worker, task

    initial = total - len(tasks)
    with tqdm(total=total, initial=initial, desc=method, unit="pair", mininterval=1.0) as bar:
        while left:
            (call,), _ = ray.wait(list(running), num_returns=1)
            worker, task = running.pop(call)
            try:
                result = ray.get(call)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                raise
            start(worker)
            if task is not None:
                left -= 1
                bar.update()
                yield task, result


def split_tasks(tasks: Sequence[Task], workers: int) -> list[deque[Task]]:
    """Splits the tasks into one block of consecutive tasks per worker, of nearly equal length."""
    ends = np.linspace(0, len(tasks), workers + 1).astype(int)
    return [deque(tasks[start:end]) for start, end in pairwise(ends)]


def next_task(shares: Sequence[deque[Task]], worker: int) -> Task:
    """Takes the next task of a worker's share; else the last one of the longest share."""
    return shares[worker].popleft() if shares[worker] else max(shares, key=len).pop()
