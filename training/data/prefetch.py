"""Copies the tars of the windows in use into the local cache, ahead of need."""

import errno
import logging
import threading
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from typing import BinaryIO

from ucn.errors import UserError
from ucn.preprocessing.shards.cache_folder import LocalCache, lock_copy, make_copy
from ucn.preprocessing.shards.format import ShardEntry
from ucn.storage.files import file_sha256
from ucn.storage.stores import Store

logger = logging.getLogger(__name__)

THREADS = 2
"""Tars that one process copies concurrently."""
RETRY_S = 0.1
"""Interval between looks for a copy that another process makes, seconds."""


class Prefetcher:
    """Keeps the tars in use in the cache, each copied by one GET a node, in background threads.

    The copies are locked while they are in use, and make room for others afterwards. After a
    failure it gives up: readers then read from the store, which raises the errors of the store.

    Args:
        tars: all tars with their stores; None for tars in local folders.
        cache: folder and size of the cache.
        gave_up: set after a failure; readers wait for copies until then.
    """

    def __init__(
        self, tars: Sequence[tuple[Store, ShardEntry] | None], cache: LocalCache, gave_up: Event
    ) -> None:
        self._tars, self._cache, self._gave_up = tars, cache, gave_up
        self._expendable = {tar[1].sha256 for tar in tars if tar is not None}
        self._changed = threading.Condition()
        self._now: list[int] = []
        self._after: list[int] = []
        self._busy: set[int] = set()
        self._verified: set[str] = set()
        self._locked: dict[int, BinaryIO] = {}
        self._is_started = False

    def use(self, now: Sequence[int], after: Sequence[int]) -> None:
        """Copies tars that are needed now, and then those that are needed next.

        The tars of the last call that are not in this one are no longer in use.
        """
        with self._changed:
            self._now, self._after = list(now), list(after)
            for tar in self._locked.keys() - {*now, *after}:
                self._locked.pop(tar).close()
            self._changed.notify_all()
            if now and not self._is_started:
                self._is_started = True
                for _ in range(THREADS):
                    threading.Thread(target=self._run, name="prefetch", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._changed:
                while (tar := self._next()) is None:
                    if self._gave_up.is_set():
                        return
                    self._changed.wait()
                self._busy.add(tar)
            file = self._copy(tar)
            with self._changed:
                self._busy.discard(tar)
                if file is not None and tar in (*self._now, *self._after):
                    self._locked[tar] = file
                elif file is not None:
                    file.close()
                elif not self._gave_up.is_set():
                    # Another process copies it, or there is no room before this step ends.
                    self._changed.wait(RETRY_S)

    def _next(self) -> int | None:
        """The first tar that is needed and neither there nor being copied."""
        if self._gave_up.is_set():
            return None
        for tar in (*self._now, *self._after):
            if self._tars[tar] and tar not in self._locked and tar not in self._busy:
                return tar
        return None

    def _copy(self, tar: int) -> BinaryIO | None:
        """Copies and locks a tar; None if it is not there yet."""
        found = self._tars[tar]
        assert found is not None, "only tars in stores are copied"
        store, shard = found
        problem = ""
        try:
            self._cache.folder.mkdir(parents=True, exist_ok=True)
            file = lock_copy(shard, self._cache)
            if file is not None and not self._is_whole(shard):
                file.close()
                self._cache.path(shard).unlink(missing_ok=True)
                file = None
            if file is not None:
                return file
            outcome = make_copy(store, shard, self._cache, expendable=self._expendable)
            if outcome == "made":
                return lock_copy(shard, self._cache)
            if outcome == "damaged":
                self._give_up("")
            elif outcome == "no room" and tar in self._now:
                problem = "no room; raise data.cache_gib, or let other runs end"
        except (UserError, FileNotFoundError):
            # Readers get the same error from the store.
            self._give_up("")
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            problem = "the disk is full" if full else error.strerror or str(error)
        if problem:
            self._give_up(f"{problem}); reading from {store.uri}")
        return None

    def _is_whole(self, shard: ShardEntry) -> bool:
        """Whether a copy that lies there has its SHA-256; read once in this process."""
        if shard.sha256 not in self._verified:
            if file_sha256(self._cache.path(shard)) != shard.sha256:
                return False
            self._verified.add(shard.sha256)
        return True

    def _give_up(self, warning: str) -> None:
        with self._changed:
            if warning and not self._gave_up.is_set():
                logger.warning("%s: no further copies of shards (%s", self._cache.folder, warning)
            self._gave_up.set()
            self._changed.notify_all()
