"""A lease on a folder in an object store: one object, changed by conditional PUTs alone.

The holder renews the object several times in the span after which it expires. Whoever comes then
sees how old the object is, by the store's own clock (its ``Last-Modified`` against the ``Date`` of
the answer), so that no clock of a client counts. It waits until the object changes, which shows
that the holder lives, or expires, and then replaces it on condition that it is still the same.
A holder whose renewal finds another's object has lost the lease, and says so at its next check.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, Protocol

from ucn.errors import UserError
from ucn.storage.lease_holder import Holder, parse_holder, refusal, this_driver

logger = logging.getLogger(__name__)

_BEATS = 4
"""Renewals in the span of an expiry: three may fail."""
_LOOKS = 60
"""How often one that waits looks in that span."""

Verdict = Literal["alive", "expired", "wait"]


@dataclass(frozen=True)
class Seen:
    """What a store says of an object.

    Attributes:
        data: its content.
        etag: names the content.
        age_s: seconds since it was written, by the store's clock.
    """

    data: bytes
    etag: str
    age_s: float


class ConditionalObject(Protocol):
    """One object of a store that has conditional PUTs."""

    @property
    def folder(self) -> str:
        """URI of the folder that it stands in."""
        ...

    def read(self) -> Seen | None:
        """What is there; None for nothing."""
        ...

    def put(self, data: bytes, replaces: str | None) -> str | None:
        """Write it if what is there has the etag ``replaces``, or if nothing is, for None.

        Returns:
            the new etag; None where the condition does not hold, or held when the answer was lost.
        """
        ...

    def delete(self, etag: str) -> None:
        """Delete it, if it still has that etag as far as the store can tell."""
        ...


def judge(first_etag: str, seen: Seen, expiry_s: float) -> Verdict:
    """Whether the holder of a lease still lives.

    Args:
        first_etag: of the lease when it was first seen.
        seen: the lease now.
        expiry_s: what the holder itself has promised to renew it within.
    """
    if seen.etag != first_etag:
        return "alive"
    return "expired" if seen.age_s > expiry_s else "wait"


class ObjectLease:
    """A lease that is held and renewed; see :class:`ucn.storage.lease.Lease`."""

    def __init__(self, thing: ConditionalObject, mine: Holder, etag: str) -> None:
        self._thing, self._mine, self._etag = thing, mine, etag
        self._lost: UserError | None = None
        self._stop = threading.Event()
        # A daemon: a driver that ends in any way stops renewing.
        self._thread = threading.Thread(target=self._renew_always, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        if self._lost is not None:
            raise self._lost

    def release(self) -> None:
        """Delete the lease, unless it is lost; where the store does not answer, it expires."""
        self._stop.set()
        self._thread.join()
        with suppress(UserError):
            # Fresh, so that nobody may take it over before it is deleted: not every store has
            # conditions on that.
            self._renew()
            if self._lost is None:
                self._thing.delete(self._etag)

    def _renew_always(self) -> None:
        while self._lost is None and not self._stop.wait(self._mine.expiry_s / _BEATS):
            # The job meets the same fault, and tells it.
            with suppress(UserError):
                self._renew()

    def _renew(self) -> None:
        if self._lost is not None:
            return
        self._mine = self._mine.model_copy(update={"beat": self._mine.beat + 1})
        etag = self._thing.put(self._mine.model_dump_json().encode(), self._etag)
        if etag is None:
            etag, other = _etag_of(self._thing, self._mine)
            if etag is None:
                self._lost = UserError(
                    f"{self._thing.folder}: another run has taken over here ({other or 'ended'}), "
                    f"as this one was not heard of for {self._mine.expiry_s:g} s; run again when "
                    "no other does"
                )
                return
        self._etag = etag


@contextmanager
def hold_object(thing: ConditionalObject) -> Iterator[ObjectLease]:
    """Hold the folder of an object inside the block. Leaves nothing, unless killed.

    Raises:
        UserError: another run holds it.
    """
    mine = this_driver()
    lease = ObjectLease(thing, mine, acquire(thing, mine))
    try:
        yield lease
    finally:
        lease.release()


def acquire(
    thing: ConditionalObject, mine: Holder, pause: Callable[[float], None] = time.sleep
) -> str:
    """Take the lease, where need be after waiting for another's to expire; return its etag.

    Raises:
        UserError: the other's is alive, or what stands there is no lease.
    """
    data = mine.model_dump_json().encode()
    first: Seen | None = None
    while True:
        if first is None and (etag := thing.put(data, None)) is not None:
            return etag
        seen = thing.read()
        if seen is None:
            first = None
            continue
        holder = parse_holder(seen.data)
        if holder is None:
            raise UserError(f"{thing.folder}: its lease is not one of ours; delete that object")
        if holder.token == mine.token:
            return seen.etag
        verdict = judge((first or seen).etag, seen, holder.expiry_s)
        if verdict == "alive":
            raise refusal(thing.folder, holder)
        if verdict == "expired" and (etag := thing.put(data, seen.etag)) is not None:
            return etag
        if first is None:
            first = seen
            logger.warning(
                "%s: waiting for another run (%s) to show that it lives, or to expire, at most "
                "%.0f s",
                thing.folder,
                holder,
                max(holder.expiry_s - seen.age_s, 0) + 1,
            )
        pause(holder.expiry_s / _LOOKS)


def _etag_of(thing: ConditionalObject, mine: Holder) -> tuple[str | None, Holder | None]:
    """After a PUT whose condition did not hold: the etag, if the lease is ours all the same.

    Returns:
        the etag, None where it is not ours; and who holds it.
    """
    seen = thing.read()
    if seen is None:
        return None, None
    holder = parse_holder(seen.data)
    return (seen.etag if holder and holder.token == mine.token else None), holder
