"""The folder of cached tars, shared by concurrent processes.

A complete copy is ``SHA256.tar``. A copy in progress is ``.tmp-SHA256.tar``. It has its full size
from the start, so its space is accounted for. Its writer locks it, so abandoned files of killed
writers can be recognised. The folder is locked while its list of files changes. Training by windows
locks the copies in use, so that no process evicts them; the kernel releases the locks of a killed
process.
"""

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from ucn.preprocessing.shards.format import MANIFEST, ShardEntry
from ucn.storage.files import TEMPORARY_PREFIX
from ucn.storage.stores import Store

logger = logging.getLogger(__name__)

LOCK = ".lock"
IN_USE_S = 300.0
"""Copies used within this time are not evicted, seconds."""

Outcome = Literal["made", "under way", "no room", "damaged"]


def default_folder() -> Path:
    """The default cache folder: ``$XDG_CACHE_HOME/ucn/shards``, or ``~/.cache/ucn/shards``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ucn" / "shards"


@dataclass(frozen=True)
class LocalCache:
    """Folder and size of the cache.

    Attributes:
        limit: total size of all copies, complete or in progress, bytes.
        folder: on a local disk; shared by all processes that use the same folder.
    """

    limit: int
    folder: Path = field(default_factory=default_folder)

    def path(self, shard: ShardEntry) -> Path:
        """Path of the copy of a tar."""
        return self.folder / f"{shard.sha256}.tar"


def make_copy(
    store: Store,
    shard: ShardEntry,
    cache: LocalCache,
    kept: Collection[str] = (),
    expendable: Collection[str] = (),
) -> Outcome:
    """Copies a tar into the cache, unless it exists or another thread or process copies it.

    Args:
        kept, expendable: as in `make_room`.

    Returns:
        ``damaged``, with a warning, if the tar in the store does not match the manifest.

    Raises:
        OSError: the folder cannot be used, or the disk is full.
        UserError, FileNotFoundError: as raised by the store.
    """
    cache.folder.mkdir(parents=True, exist_ok=True)
    path = cache.path(shard)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    with _folder_lock(cache.folder):
        if path.exists():
            return "made"
        file = temporary.open("ab")
        if not _try_lock(file):
            file.close()
            return "under way"
        if not make_room(cache, shard.bytes, kept, expendable):
            temporary.unlink()
            file.close()
            return "no room"
        file.truncate(shard.bytes)
    with file:
        try:
            if not _download(store, shard, temporary):
                temporary.unlink()
                return "damaged"
            with _folder_lock(cache.folder):
                os.replace(temporary, path)
        except BaseException:
            # Delete it while it is locked: afterwards it may belong to another process.
            temporary.unlink(missing_ok=True)
            raise
    return "made"


def _download(store: Store, shard: ShardEntry, path: Path) -> bool:
    """Writes a tar into an existing file; False if it does not match the manifest."""
    with path.open("r+b") as target:
        store.download(shard.name, target)
        target.flush()
        os.fsync(target.fileno())
        target.seek(0)
        if hashlib.file_digest(target, "sha256").hexdigest() == shard.sha256:
            return True
    logger.warning("%s/%s: disagrees with %s; run `ucn verify`", store.uri, shard.name, MANIFEST)
    return False


def lock_copy(shard: ShardEntry, cache: LocalCache) -> BinaryIO | None:
    """Opens and locks a copy; nobody evicts it until the file is closed. None if there is none.

    Raises:
        OSError: the folder cannot be used.
    """
    with _folder_lock(cache.folder):
        try:
            file = cache.path(shard).open("rb")
        except FileNotFoundError:
            return None
        if _try_lock(file, fcntl.LOCK_SH):
            return file
        # Its writer is about to close it.
        file.close()
        return None


def make_room(
    cache: LocalCache, size: int, kept: Collection[str] = (), expendable: Collection[str] = ()
) -> bool:
    """Evicts the least recently used copies until ``size`` more bytes fit.

    If they cannot fit, nothing is evicted. The caller must hold the folder's lock. Processes that
    are reading an evicted copy can finish reading it.

    Args:
        kept: SHA-256 of tars that are not evicted.
        expendable: SHA-256 of tars that may be evicted at once after their use.

    Returns:
        False if ``size`` bytes cannot fit.
    """
    used, evictable, now = 0, [], time.time()
    for path in cache.folder.iterdir():
        if path.name.startswith(TEMPORARY_PREFIX):
            if _is_unlocked(path):
                path.unlink()
            else:
                used += path.stat().st_size
        elif path.suffix == ".tar":
            status = path.stat()
            used += status.st_size
            is_old = path.stem in expendable or now - status.st_mtime > IN_USE_S
            if is_old and path.stem not in kept and _is_unlocked(path):
                evictable.append((status.st_mtime, status.st_size, path))
    surplus = used + size - cache.limit
    if surplus > sum(freed for _, freed, _ in evictable):
        return False
    for _, freed, path in sorted(evictable):
        if surplus <= 0:
            break
        path.unlink()
        surplus -= freed
    return True


def _is_unlocked(path: Path) -> bool:
    """Whether no process is writing a temporary file, or using a copy."""
    with path.open("rb") as file:
        return _try_lock(file)


def _try_lock(file: BinaryIO, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Locks the folder against changes by other threads and processes."""
    with (folder / LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
