"""Delivery to MLflow in the background, in order, repeated until it succeeds."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ucn.storage.retry import Result, backoff, retry
from ucn.training.tracking.client import brief, is_transient

logger = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""Seconds that the start waits for the server, and the end for undelivered entries."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
ATTEMPTS = 5
"""Failed attempts after which a call is given up if the server answers other requests."""
METRICS_AT_ONCE = 1000
"""Limit of MLflow's for one request."""
ROOM = 256 << 20
"""Bound of the queue, in bytes (estimated)."""
ENTRY_BYTES = 500
"""Estimated bytes of a queued point or small call."""


class Point(NamedTuple):
    """One value of a metric, with the time in milliseconds when it was measured.

    If an answer is lost and a point is delivered twice, MLflow's databases store it once.
    """

    name: str
    value: float
    time: int
    step: int


@dataclass(frozen=True)
class _Entry:
    """Points of one step, or another call; ``size`` is in bytes (estimated)."""

    points: tuple[Point, ...]
    call: Callable[[], object] | None
    size: int


def retry_request(uri: str, call: Callable[[], Result]) -> Result:
    """Make a call, which may be repeated, until it succeeds, for at most `PATIENCE_S`.

    Args:
        uri: of the server, for the warning.

    Raises:
        Exception: the last error of the call.
    """

    def warn_once(error: Exception, failures: int) -> None:
        if failures == 1:
            logger.warning(
                "%s: MLflow does not answer (%s); trying again for %.0f s",
                uri,
                brief(error),
                PATIENCE_S,
            )

    deadline = time.monotonic() + PATIENCE_S
    return retry(call, is_transient, backoff(FIRST_WAIT_S, deadline=deadline), warn_once)


class Delivery:
    """Delivers points and makes calls, in order, in one background thread.

    While the server does not answer, entries wait. The beginning and the end of an outage are
    logged. Entries that the server refuses are dropped, with one warning for each reason.

    Args:
        uri: of the server, for messages.
        send: delivers up to `METRICS_AT_ONCE` points.
        probe: a harmless request, which shows whether the server answers.
    """

    def __init__(
        self, uri: str, send: Callable[[list[Point]], object], probe: Callable[[], object]
    ) -> None:
        self._uri = uri
        self._send = send
        self._probe = probe
        self._changed = threading.Condition()
        self._entries: deque[_Entry] = deque()
        self._size = 0
        self._closing = False
        self._abandoned = False
        self._lost_points = 0
        self._lost_calls = 0
        self._reasons: set[str] = set()
        self._away_since: float | None = None
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def put_points(self, points: tuple[Point, ...]) -> None:
        """Queue the points of a step; they are delivered together."""
        self._put(_Entry(points, None, ENTRY_BYTES * len(points)))

    def put(self, call: Callable[[], object], size: int = ENTRY_BYTES) -> None:
        """Queue a call, which may be repeated and holds ``size`` bytes until then."""
        self._put(_Entry((), call, size))

    def close(self) -> None:
        """Wait until all is delivered, at most `PATIENCE_S`; later entries are dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(PATIENCE_S)
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()
            for entry in self._entries:
                self._count_lost(entry)
        if self._lost_points or self._lost_calls:
            logger.warning(
                "%s: %d metrics and %d other entries were not delivered to MLflow",
                self._uri,
                self._lost_points,
                self._lost_calls,
            )

    def _put(self, entry: _Entry) -> None:
        with self._changed:
            if self._closing:
                return
            if self._size + entry.size > ROOM:
                self._count_lost(entry)
                return
            self._entries.append(entry)
            self._size += entry.size
            self._changed.notify_all()

    def _count_lost(self, entry: _Entry) -> None:
        self._lost_points += len(entry.points)
        self._lost_calls += entry.call is not None

    def _work(self) -> None:
        singly = 0
        while entries := self._head(alone=singly > 0):
            singly = max(0, singly - 1)
            error = self._deliver(entries)
            if error is not None and len(entries) > 1:
                # One bad entry fails the whole request.
                singly = len(entries)
                continue
            with self._changed:
                if self._abandoned:
                    return
                for entry in entries:
                    self._entries.popleft()
                    self._size -= entry.size
            if error is not None and (reason := brief(error)) not in self._reasons:
                self._reasons.add(reason)
                logger.warning("%s: MLflow refuses an entry (%s)", self._uri, reason)

    def _head(self, alone: bool) -> list[_Entry]:
        """Wait for the first entry; return it with the points to send with it; empty at the end."""
        with self._changed:
            while not self._entries and not self._closing:
                self._changed.wait()
            head: list[_Entry] = []
            count = 0
            for entry in self._entries:
                count += len(entry.points)
                if head and (alone or not entry.points or count > METRICS_AT_ONCE):
                    break
                head.append(entry)
                if entry.call is not None:
                    break
            return head

    def _deliver(self, entries: list[_Entry]) -> Exception | None:
        """Retry until delivered or closed; return the error of entries that cannot be delivered."""
        waits, failures = backoff(FIRST_WAIT_S, LONGEST_WAIT_S), 0
        while not self._abandoned:
            is_last = failures >= ATTEMPTS and self._answers()
            try:
                if entries[0].call is not None:
                    entries[0].call()
                else:
                    self._send([point for entry in entries for point in entry.points])
            except Exception as error:  # noqa: BLE001 - no error of tracking stops a run
                if is_last or not is_transient(error):
                    return error
                failures += 1
                self._log_outage(error)
            else:
                self._log_recovery()
                return None
            if self._wait(next(waits)):
                waits = backoff(FIRST_WAIT_S, LONGEST_WAIT_S)
        return None

    def _wait(self, seconds: float) -> bool:
        """Wait; return True, and early, if `close` is called meanwhile."""
        with self._changed:
            if self._closing:
                self._changed.wait_for(lambda: self._abandoned, seconds)
                return False
            return self._changed.wait_for(lambda: self._closing, seconds)

    def _answers(self) -> bool:
        try:
            self._probe()
        except Exception as error:  # noqa: BLE001 - only whether it answers counts
            return not is_transient(error)
        return True

    def _log_outage(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            logger.warning(
                "%s: MLflow does not answer (%s); going on, and trying again",
                self._uri,
                brief(error),
            )

    def _log_recovery(self) -> None:
        if self._away_since is not None:
            seconds = time.monotonic() - self._away_since
            self._away_since = None
            logger.info("%s: MLflow answers again, after %.0f s", self._uri, seconds)
