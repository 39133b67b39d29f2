"""Calls to a server that may go away: kept in order, made in the background until they succeed."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from ucn.training.tracking.client import brief, may_pass

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

PATIENCE_S = 30.0
"""How long the start waits for the server, and the end for what is still to be delivered."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
ATTEMPTS = 5
"""After so many failures a call is given up if the server answers others."""
METRICS_AT_ONCE = 1000
"""What MLflow takes in one request."""
ROOM = 256 << 20
"""Bytes, about, that wait at most."""
ENTRY_BYTES = 500
"""What a point or a small call takes while it waits, about."""


class Point(NamedTuple):
    """One value of a metric; its time, in milliseconds, is that of its making, not of delivery.

    MLflow's databases take a point that is delivered twice, since an answer was lost, for one.
    """

    name: str
    value: float
    time: int
    step: int


@dataclass(frozen=True)
class _Entry:
    """Points of one step, or another call; ``size`` in bytes, about."""

    points: tuple[Point, ...]
    call: Callable[[], object] | None
    size: int


def patiently(uri: str, call: Callable[[], Result]) -> Result:
    """Make a call, which may be made again, until it succeeds: for `PATIENCE_S` at most.

    Args:
        uri: of the server, for messages.

    Raises:
        Exception: the call's own, where trying again is of no use, or was of none.
    """
    deadline, wait = time.monotonic() + PATIENCE_S, FIRST_WAIT_S
    while True:
        try:
            return call()
        except Exception as error:
            if not may_pass(error) or time.monotonic() + wait > deadline:
                raise
            if wait == FIRST_WAIT_S:
                logger.warning(
                    "%s: MLflow does not answer (%s); trying again for %.0f s",
                    uri,
                    brief(error),
                    PATIENCE_S,
                )
        time.sleep(wait)
        wait *= 2


class Delivery:
    """Delivers points and makes calls, in order, in one background thread.

    While the server is away, what is to be delivered waits; that is warned of once, and its end
    is told. What the server refuses is left out, with a warning for each reason.

    Args:
        uri: of the server, for messages.
        send: delivers up to `METRICS_AT_ONCE` points.
        probe: a harmless request: it tells a call that fails from a server that is away.
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
        """Deliver the points of a step: all of them, or none."""
        self._put(_Entry(points, None, ENTRY_BYTES * len(points)))

    def put(self, call: Callable[[], object], size: int = ENTRY_BYTES) -> None:
        """Make a call, which may be made again; ``size`` bytes are held until then."""
        self._put(_Entry((), call, size))

    def close(self) -> None:
        """Wait until all is delivered, at most `PATIENCE_S`; nothing can be added afterwards."""
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
                # One of them spoils the others.
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
        """Wait for the first entry, and the points that can go with it; empty at the end."""
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
        """Try until it succeeds, or is given up at the end; return why it never will."""
        wait, failures = FIRST_WAIT_S, 0
        while not self._abandoned:
            is_last = failures >= ATTEMPTS and self._answers()
            try:
                if entries[0].call is not None:
                    entries[0].call()
                else:
                    self._send([point for entry in entries for point in entry.points])
            except Exception as error:  # noqa: BLE001 - whatever ails the tracking, work goes on
                if is_last or not may_pass(error):
                    return error
                failures += 1
                self._tell_away(error)
            else:
                self._tell_back()
                return None
            wait = self._pause(wait)
        return None

    def _pause(self, wait: float) -> float:
        """Wait, but not beyond the moment when the end begins; return how long to wait next."""
        with self._changed:
            if self._closing:
                self._changed.wait_for(lambda: self._abandoned, wait)
            elif self._changed.wait_for(lambda: self._closing, wait):
                return FIRST_WAIT_S
        return min(2 * wait, LONGEST_WAIT_S)

    def _answers(self) -> bool:
        try:
            self._probe()
        except Exception as error:  # noqa: BLE001 - only whether it answers counts
            return not may_pass(error)
        return True

    def _tell_away(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            logger.warning(
                "%s: MLflow does not answer (%s); going on, and trying again",
                self._uri,
                brief(error),
            )

    def _tell_back(self) -> None:
        if self._away_since is not None:
            seconds = time.monotonic() - self._away_since
            self._away_since = None
            logger.info("%s: MLflow answers again, after %.0f s", self._uri, seconds)
