"""Local copies of an object store's tars, limited in bytes and shared by all processes.

Whole tars are copied, not ranges. Training reads every sample of a tar once per epoch, a copy needs
few large requests instead of one small request per sample, and the manifest has a SHA-256 of the
whole tar. Copies are made in the background; until one is ready, samples are read from the store.

Copies of other datasets are evicted in order of last use. Tars of the same dataset are never
evicted: random access uses all of them equally, so eviction would only cause repeated copying.
Tars that do not fit are read from the store.

For training by windows, the process that draws the samples makes the copies ahead of need
(`ucn.training.data.prefetch`), and the readers wait for them.
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
from multiprocessing.synchronize import Event
from typing import Any

from ucn.errors import UserError
from ucn.preprocessing.shards.cache_folder import LocalCache, Outcome, make_copy
from ucn.preprocessing.shards.format import ShardEntry
from ucn.storage.stores import Store

logger = logging.getLogger(__name__)

COPIERS = 2
"""Tars that one process copies concurrently."""
WAIT_S = 0.02
"""Interval between looks for a copy that another process makes, seconds."""
TOUCH_S = 30.0
"""Resolution of the recorded time of last use, seconds."""
PAUSE_S = 60.0
"""Pause before further copies after one did not fit, seconds."""


class _State:
    """A process's state of the copies.

    Attributes:
        used: time at which the last use of a verified copy was recorded, by SHA-256.
        copying: SHA-256 of the tars that this process is copying.
        damaged: SHA-256 of tars that are damaged in the store.
        resume_at: no copies are started before this time.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.used: dict[str, float] = {}
        self.copying: set[str] = set()
        self.damaged: set[str] = set()
        self.resume_at = 0.0


class CachedTars:
    """Reads ranges of a dataset's tars, from local copies if available.

    Picklable, thread-safe and fork-safe. A copy is verified against its SHA-256 when it is made,
    and again at its first use by each process. If the folder cannot be written or the disk is full,
    this logs one warning and reads everything from the store.

    Args:
        store: store of the tars.
        shards: all tars of the dataset.
        cache: folder and size of the cache.
        gave_up: None copies tars in the background. Otherwise another process copies and verifies
            them: until it sets this, reads wait for the copies.
    """

    def __init__(
        self,
        store: Store,
        shards: Sequence[ShardEntry],
        cache: LocalCache,
        gave_up: Event | None = None,
    ) -> None:
        self._gave_up = gave_up
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
        """URI of the folder in the store."""
        return self._store.uri

    def read(self, name: str, start: int, size: int) -> bytes:
        """Reads ``size`` bytes of a tar from ``start``.

        Raises:
            FileNotFoundError, UserError: as raised by the store.
        """
        state, shard = self._current(), self._shards[name]
        data = self._read_copy(state, shard, start, size)
        if self._gave_up is not None:
            while data is None and not self._gave_up.wait(WAIT_S):
                data = self._read_copy(state, shard, start, size)
        elif data is None:
            self._start_copy(state, shard)
        return self._store.read(name, start, size) if data is None else data

    def distrust(self, name: str) -> bool:
        """Deletes the copy of a tar that could not be decoded; False if no copy was used."""
        shard = self._shards[name]
        with suppress(OSError):
            self._cache.path(shard).unlink(missing_ok=True)
        return self._current().used.pop(shard.sha256, None) is not None

    def _current(self) -> _State:
        """State of this process. A fork starts anew, since it does not inherit the threads."""
        if self._state.process != os.getpid():
            self._state = _State()
        return self._state

    def _read_copy(self, state: _State, shard: ShardEntry, start: int, size: int) -> bytes | None:
        """Reads from the copy; None if there is no complete copy."""
        try:
            with self._cache.path(shard).open("rb") as file:
                if not self._is_whole(state, shard, file):
                    self.distrust(shard.name)
                    return None
                now = time.time()
                if now - state.used.get(shard.sha256, 0.0) > TOUCH_S:
                    os.utime(file.fileno())
                    state.used[shard.sha256] = now
                return os.pread(file.fileno(), size, start)
        except OSError:
            # Usually the copy was evicted. In any case the store has the data.
            return None

    def _is_whole(self, state: _State, shard: ShardEntry, file: BufferedReader) -> bool:
        """Whether a copy has the right size and, at its first use, the right SHA-256.

        A copy that another process makes for this one is verified there.
        """
        if os.fstat(file.fileno()).st_size != shard.bytes:
            return False
        if self._gave_up is None and shard.sha256 not in state.used:
            if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                return False
            state.used[shard.sha256] = 0.0
        return True

    def _start_copy(self, state: _State, shard: ShardEntry) -> None:
        """Copies a tar in the background, unless a copy is in progress or would fail."""
        with state.lock:
            if (
                len(state.copying) >= COPIERS
                or shard.sha256 in state.copying | state.damaged
                or time.monotonic() < state.resume_at
            ):
                return
            state.copying.add(shard.sha256)
        # A daemon thread does not delay the end of the process; its file is deleted later.
        threading.Thread(
            target=self._copy, args=(state, shard), name="shard-cache", daemon=True
        ).start()

    def _copy(self, state: _State, shard: ShardEntry) -> None:
        outcome: Outcome | OSError
        try:
            outcome = make_copy(self._store, shard, self._cache, self._own)
        except (UserError, FileNotFoundError):
            # Reading from the store raises the same error and reports it.
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
