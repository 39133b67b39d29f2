"""The retry policy: exponential backoff with jitter."""

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

Result = TypeVar("Result")


def backoff(
    first_s: float,
    longest_s: float = math.inf,
    attempts: int | None = None,
    deadline: float = math.inf,
) -> Iterator[float]:
    """Yield the wait in seconds after each failed attempt; end when no attempt is left.

    Waits double from ``first_s`` to ``longest_s``. Each is shortened by up to a half at random,
    so that clients that failed together do not retry together.

    Args:
        attempts: number of attempts in all; None for no limit.
        deadline: no wait ends later, by `time.monotonic`.
    """
    wait, failures = min(first_s, longest_s), 1
    while attempts is None or failures < attempts:
        # Not seeded: the waits of two processes must differ, and no result depends on them.
        jittered = wait * random.uniform(0.5, 1)
        if time.monotonic() + jittered > deadline:
            return
        yield jittered
        wait, failures = min(2 * wait, longest_s), failures + 1


def retry(
    call: Callable[[], Result],
    is_transient: Callable[[Exception], bool],
    waits: Iterator[float],
    on_wait: Callable[[Exception, int], object] = lambda error, failures: None,
) -> Result:
    """Make a call until it succeeds, and return its result.

    Args:
        call: may be made more than once.
        is_transient: whether another attempt may succeed after this error.
        waits: the wait in seconds before each further attempt, such as `backoff` gives.
        on_wait: called before each wait with the error and the number of failed attempts.

    Raises:
        Exception: the last error of the call.
    """
    for failures in itertools.count(1):
        try:
            return call()
        except Exception as error:
            wait = next(waits, None) if is_transient(error) else None
            if wait is None:
                raise
            on_wait(error, failures)
        time.sleep(wait)
    raise AssertionError("the loop does not end")
