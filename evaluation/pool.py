"""The pool of worker processes of an evaluation, on Ray."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from ucn.cluster.session import ray_session
from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import named_models
from ucn.evaluation.worker import PairWorker
from ucn.storage.stores import absolute_uri
from ucn.training.model import model_place


@contextmanager
def worker_pool(config: EvaluateConfig, num_tasks: int) -> Iterator[Any]:
    """Starts a pool of workers. Each evaluates one pair at a time and is restarted if it dies."""
    with ray_session(config.workers or None):
        import ray
        from ray.util import ActorPool

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
        absolute = config.model_copy(update={"model": models})
        count = max(1, min(config.workers or limit, limit, num_tasks))
        actors = [remote.remote(absolute, shards) for _ in range(count)]
        try:
            yield ActorPool(actors)
        finally:
            for actor in actors:
                ray.kill(actor)  # type: ignore[arg-type]


def spread(pool: Any, method: str, tasks: Sequence[tuple[Any, ...]], total: int) -> Iterator[Any]:
    """Calls one method of the workers for every task, and shows a progress bar.

    Args:
        pool: pool of :func:`worker_pool`.
        method: name of the method.
        tasks: arguments of each call.
        total: total number of tasks, including those finished before.

    Returns:
        Iterator over the results, in the order of the tasks.

    Raises:
        UserError: a worker raised it.
    """
    from ray.exceptions import RayTaskError

    try:
        found = pool.map(lambda actor, task: getattr(actor, method).remote(*task), tasks)
        yield from tqdm(
            found,
            total=total,
            initial=total - len(tasks),
            desc=method,
            unit="pair",
            mininterval=1.0,
        )
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
