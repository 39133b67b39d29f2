"""Runs independent tasks on Ray, with a bounded number in flight and retries."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, TypeVar

from ucn.cluster.session import ray_session
from ucn.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

# How often a task is retried if its worker dies (killed, out of memory, lost node).
_RETRIES = 5
# Interval at which CPUs are counted again: an autoscaler adds nodes while tasks are waiting.
_RECOUNT_S = 5.0


def run_tasks(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None
) -> Iterator[tuple[int, Result]]:
    """Applies a function to each item and yields (index of the item, result), in any order.

    Args:
        function: importable by name on every node. Must be idempotent, since it may be retried.
        items: picklable. They are taken from the iterable when their tasks are submitted.
        workers: number of concurrent tasks; None for one per CPU. 0 runs the tasks sequentially in
            this process, without Ray.

    Raises:
        UserError: a task raised it.
    """
    waiting = enumerate(items)
    if workers == 0:
        for index, item in waiting:
            yield index, function(item)
        return
    # Ray is not started for nothing.
    for first in waiting:
        with ray_session(workers):
            yield from _run_on_ray(function, chain([first], waiting), workers)


def _run_on_ray(
    function: Callable[[Item], Result], waiting: Iterator[tuple[int, Item]], workers: int | None
) -> Iterator[tuple[int, Result]]:
    import ray

    remote: Any = ray.remote(num_cpus=1, max_retries=_RETRIES)(function)
    running: dict[Any, int] = {}
    while True:
        window = workers or _two_for_each_cpu()
        for index, item in islice(waiting, max(0, window - len(running))):
            running[remote.remote(item)] = index
        if not running:
            return
        done, _ = ray.wait(list(running), num_returns=1, timeout=_RECOUNT_S)
        for reference in done:
            try:
                result = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                raise
            yield running.pop(reference), result


def _two_for_each_cpu() -> int:
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(1, 2 * int(resources.get("CPU", 0)))
