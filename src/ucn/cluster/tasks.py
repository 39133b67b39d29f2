"""Independent tasks on Ray: a bounded window, retries, results as they come."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ucn.cluster.session import ray_session
from ucn.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

# A task whose worker dies (killed, out of memory, lost node) is run again this often.
_RETRIES = 5
# An autoscaler answers to tasks that wait, and what it adds lets more of them wait.
_RECOUNT_S = 5.0


def run_tasks(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None
) -> Iterator[tuple[int, Result]]:
    """Apply a function to each item and yield (index of the item, result), in any order.

    Args:
        function: importable by its name on every node, and idempotent: it may run again.
        items: picklable.
        workers: how many run at once, on a Ray that is joined or started; None for one a CPU;
            0 runs them in this process, one after the other, without Ray.

    Raises:
        UserError: as a task raised it.
    """
    if not items:
        return
    if workers == 0:
        for index, item in enumerate(items):
            yield index, function(item)
        return
    with ray_session(workers):
        yield from _run_on_ray(function, items, workers)


def _run_on_ray(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None
) -> Iterator[tuple[int, Result]]:
    import ray

    remote: Any = ray.remote(num_cpus=1, max_retries=_RETRIES)(function)
    waiting = deque(enumerate(items))
    running: dict[Any, int] = {}
    while waiting or running:
        window = workers or _two_for_each_cpu()
        while waiting and len(running) < window:
            index, item = waiting.popleft()
            running[remote.remote(item)] = index
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
