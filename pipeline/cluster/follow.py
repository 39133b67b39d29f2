"""A job's log as it grows, through lost connections, until the job ends."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, cast

from ucn.errors import UserError
from ucn.pipeline.cluster.client import BROKEN, JobsClient, JobsError, UnavailableError

PATIENCE_S = 300.0
"""How long a cluster that does not answer is asked again."""

# Seconds without a new line after which the job is asked whether it has ended.
_QUIET_S = 2.0
# Seconds without a new line after which the stream is opened anew: it may be dead on one side.
_STALE_S = 120.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0

Tell = Callable[[str], None]


def follow(
    client: JobsClient, name: str, show: Tell, tell: Tell, patience_s: float = PATIENCE_S
) -> Any:
    """Show a job's log from its start until the job ends.

    Args:
        client: of the cluster.
        name: Ray's id of the job.
        show: takes the pieces of the log.
        tell: takes a line about the connection.
        patience_s: how long to try again where the cluster does not answer.

    Returns:
        Ray's ``JobDetails`` of the ended job.

    Raises:
        UserError: the cluster stays away, refuses, or knows no such job any more.
    """
    log = _Log(show)
    outage = _Outage(client.address, name, tell, patience_s)
    wait = _FIRST_WAIT_S
    has_stream = True
    while True:
        try:
            details = _look(client, name)
            if details.status.is_terminal() or not has_stream:
                _show_all(client, name, log)
        except BROKEN:
            outage.go_on()
        else:
            outage.end()
            if details.status.is_terminal():
                return details
            try:
                asyncio.run(_stream(client, name, log))
                has_stream, wait = True, _FIRST_WAIT_S
                continue
            except BROKEN:
                # Some proxies pass no stream: then the whole log is read from time to time.
                has_stream = False
        time.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT_S)


class _Log:
    """Shows a text once, though it is read from its start after each reconnection."""

    def __init__(self, show: Tell) -> None:
        self._show = show
        self._shown = 0
        self._read = 0

    def restart(self) -> None:
        self._read = 0

    def take(self, text: str) -> None:
        fresh = text[max(0, self._shown - self._read) :]
        self._read += len(text)
        if fresh:
            self._show(fresh)
            self._shown = self._read


class _Outage:
    """The time in which a cluster does not answer; told once, and bounded."""

    def __init__(self, address: str, name: str, tell: Tell, patience_s: float) -> None:
        self._address, self._name, self._tell = address, name, tell
        self._patience_s = patience_s
        self._since: float | None = None

    def go_on(self) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._tell(f"{self._address}: connection lost; reconnecting")
        if now - self._since > self._patience_s:
            raise UserError(
                f"{self._address}: no answer for {self._patience_s:.0f} s; the job {self._name} "
                "goes on there as long as the cluster does: the same command comes back to it"
            )

    def end(self) -> None:
        if self._since is not None:
            self._since = None
            self._tell(f"{self._address}: connected again")


def _look(client: JobsClient, name: str) -> Any:
    try:
        return client.get_job_info(name)
    except UnavailableError:
        raise
    except JobsError as error:
        if error.status != 404:
            raise UserError(f"{client.address}: the dashboard refuses ({error})") from None
        raise UserError(
            f"{name}: the cluster knows no such job any more, it was started anew; the same "
            "command submits the job again"
        ) from None


def _show_all(client: JobsClient, name: str, log: _Log) -> None:
    log.restart()
    # The node that kept the log may be gone; how the job ended is known all the same.
    with contextlib.suppress(JobsError):
        log.take(client.get_job_logs(name))


async def _stream(client: JobsClient, name: str, log: _Log) -> None:
    """Show the log as it comes; return when the job has ended, or nothing comes for long."""
    log.restart()
    pieces = cast(AsyncGenerator[str], client.tail_job_logs(name))
    coming: asyncio.Future[str] | None = None
    quiet_since = time.monotonic()
    try:
        while time.monotonic() - quiet_since < _STALE_S:
            coming = coming or asyncio.ensure_future(anext(pieces))
            done, _ = await asyncio.wait({coming}, timeout=_QUIET_S)
            if done:
                log.take(coming.result())
                coming = None
                quiet_since = time.monotonic()
            elif client.get_job_info(name).status.is_terminal():
                return
    except StopAsyncIteration:
        return
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.wait({coming})
        await pieces.aclose()
