"""Local copies of the tars of an object store, bounded in bytes, shared by all of a machine.

Whole tars, not ranges: training comes back to every sample of a tar once an epoch, a copy takes
few large requests in place of one small request a sample, and a whole tar is what the manifest has
a SHA-256 of. Nobody waits for a copy: while it is made in the background, samples are read
straight from the store.

Copies of other datasets make room, the one whose last use is longest ago first. Tars of the same
dataset do not: random access comes to all of them alike, so that exchanging them would only copy
the dataset again and again. What does not fit is read from the store.
"""

import errno
import hashlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from io import BufferedReader
from typing import Any

from ucn.errors import UserError
from ucn.preprocessing.shards.cache_folder import LocalCache, Outcome, make_copy
from ucn.preprocessing.shards.format import ShardEntry
from ucn.storage.stores import Store

logger = logging.getLogger(__name__)

COPIERS = 2
"""Tars that a process copies at once."""
TOUCH_S = 30.0
"""How exactly the time of the last use is kept."""
PAUSE_S = 60.0
"""How long a process waits with further copies after one found no room."""


class _State:
    """What one process knows of the copies.

    Attributes:
        used: when the use of a copy was last noted, by SHA-256; of those found whole.
        copying: SHA-256 of the tars that this process copies.
        damaged: SHA-256 of those that are damaged in the store.
        resume_at: no copies before this time.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.used: dict[str, float] = {}
        self.copying: set[str] = set()
        self.damaged: set[str] = set()
        self.resume_at = 0.0


class CachedTars:
    """Reads ranges of a dataset's tars, from local copies where they are there.

    Picklable; safe to use from several threads, and across a fork. A copy is checked against its
    SHA-256 when it is made, and at the first use by each process. If the folder cannot be written
    or the disk is full, that is warned of once, and all is read from the store.

    Args:
        store: where the tars lie.
        shards: all tars of the dataset.
        cache: where copies go.
    """

    def __init__(self, store: Store, shards: Sequence[ShardEntry], cache: LocalCache) -> None:
        self._store = store
        self._cache = cache
        self._shards = {shard.name: shard for shard in shards}
        self._own = {shard.sha256 for shard in shards}
        self._state = _State()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_state"}

    def __setstate__(self, values: dict[str, Any]) -> None:
        vars(self).update(values)
        self._state = _State()

    @property
    def uri(self) -> str:
        """Of the folder in the store."""
        return self._store.uri

    def read(self, name: str, start: int, size: int) -> bytes:
        """Read ``size`` bytes of a tar from ``start``.

        Raises:
            FileNotFoundError, UserError: as the store does.
        """
        state, shard = self._current(), self._shards[name]
        data = self._read_copy(state, shard, start, size)
        if data is None:
            self._start_copy(state, shard)
            data = self._store.read(name, start, size)
        return data

    def distrust(self, name: str) -> bool:
        """Drop the copy of a tar that gave what cannot be decoded; False where none was used."""
        shard = self._shards[name]
        with suppress(OSError):
            self._cache.path(shard).unlink(missing_ok=True)
        return self._current().used.pop(shard.sha256, None) is not None

    def _current(self) -> _State:
        """What this process knows; none of its parent's threads lives on in a fork."""
        if self._state.process != os.getpid():
            self._state = _State()
        return self._state

    def _read_copy(self, state: _State, shard: ShardEntry, start: int, size: int) -> bytes | None:
        """Read from the copy; None where there is none, or not a whole one."""
        try:
            with self._cache.path(shard).open("rb") as file:
                if not _is_whole(state, shard, file):
                    self.distrust(shard.name)
                    return None
                now = time.time()
                if now - state.used.get(shard.sha256, 0.0) > TOUCH_S:
                    os.utime(file.fileno())
                    state.used[shard.sha256] = now
                return os.pread(file.fileno(), size, start)
        except OSError:
            # Evicted, most often; whatever it is, the store has it.
            return None

    def _start_copy(self, state: _State, shard: ShardEntry) -> None:
        """Copy a tar in the background, unless that is under way or without prospect."""
        with state.lock:
            if (
                len(state.copying) >= COPIERS
                or shard.sha256 in state.copying | state.damaged
                or time.monotonic() < state.resume_at
            ):
                return
            state.copying.add(shard.sha256)
        # A daemon: the end of the process does not wait for it, and the next one sweeps.
        threading.Thread(
            target=self._copy, args=(state, shard), name="shard-cache", daemon=True
        ).start()

    def _copy(self, state: _State, shard: ShardEntry) -> None:
        outcome: Outcome | OSError
        try:
            outcome = make_copy(self._store, shard, self._cache, self._own)
        except (UserError, FileNotFoundError):
            # Reading straight meets the same, and tells it.
            outcome = "under way"
        except OSError as error:
            outcome = error
        with state.lock:
            state.copying.discard(shard.sha256)
            was_off = state.resume_at == float("inf")
            if outcome == "damaged":
                state.damaged.add(shard.sha256)
            elif outcome == "no room" and not was_off:
                state.resume_at = time.monotonic() + PAUSE_S
            elif isinstance(outcome, OSError):
                state.resume_at = float("inf")
        if isinstance(outcome, OSError) and not was_off:
            full = outcome.errno in (errno.ENOSPC, errno.EDQUOT)
            logger.warning(
                "%s: no further copies of shards (%s); reading from %s",
                self._cache.folder,
                "the disk is full" if full else outcome.strerror or outcome,
                self._store.uri,
            )


def _is_whole(state: _State, shard: ShardEntry, file: BufferedReader) -> bool:
    """Whether a copy has the right size and, at its first use, the right content."""
    if os.fstat(file.fileno()).st_size != shard.bytes:
        return False
    if shard.sha256 not in state.used:
        if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
            return False
        state.used[shard.sha256] = 0.0
    return True
