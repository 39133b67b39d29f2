"""Exponential backoff with jitter."""

import time
from collections.abc import Callable

import pytest

from ucn.storage.retry import backoff, retry


def failing(times: int) -> Callable[[], str]:
    """A call that fails so many times before it succeeds."""
    left = iter(range(times))

    def call() -> str:
        for number in left:
            raise ConnectionError(str(number))
        return "done"

    return call


def test_waits_double_up_to_the_longest_less_up_to_a_half() -> None:
    waits = list(backoff(1.0, 6.0, attempts=6))
    assert len(waits) == 5
    for wait, largest in zip(waits, (1, 2, 4, 6, 6), strict=True):
        assert largest / 2 <= wait <= largest


def test_two_clients_do_not_wait_alike() -> None:
    assert list(backoff(1.0, attempts=5)) != list(backoff(1.0, attempts=5))


def test_waits_stay_bounded_without_a_limit_of_attempts() -> None:
    waits = backoff(1.0, 2.0)
    assert all(next(waits) <= 2 for _ in range(2000))


def test_no_wait_ends_after_the_deadline() -> None:
    assert list(backoff(10.0, deadline=time.monotonic() + 1)) == []


def test_retries_until_success_and_reports_each_failure() -> None:
    told: list[tuple[str, int]] = []
    result = retry(
        failing(2),
        lambda error: isinstance(error, ConnectionError),
        iter([0.0, 0.0]),
        lambda error, failures: told.append((str(error), failures)),
    )
    assert result == "done"
    assert told == [("0", 1), ("1", 2)]


def test_the_last_error_is_raised() -> None:
    with pytest.raises(ConnectionError, match="2"):
        retry(failing(5), lambda error: True, iter([0.0, 0.0]))


def test_an_error_that_will_not_pass_is_raised_at_once() -> None:
    waits = iter([0.0])
    with pytest.raises(ConnectionError, match="0"):
        retry(failing(5), lambda error: False, waits)
    assert list(waits) == [0.0]
