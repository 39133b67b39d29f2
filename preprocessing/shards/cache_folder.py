"""The folder of cached tars, shared by concurrent processes.

A complete copy is ``SHA256.tar``. A copy in progress is ``.tmp-SHA256.tar``. It has its full size
from the start, so its space is accounted for. Its writer locks it, so abandoned files of killed
writers can be recognised. The folder is locked while its list of files changes.
"""

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from ucn.preprocessing.shards.format import MANIFEST, ShardEntry
from ucn.storage.files import TEMPORARY_PREFIX
from ucn.storage.stores import Store

logger = logging.getLogger(__name__)

LOCK = ".lock"
BLOCK = 16 << 20
"""Size of one request when a tar is copied, bytes."""
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


def make_copy(store: Store, shard: ShardEntry, cache: LocalCache, own: set[str]) -> Outcome:
    """Copies a tar into the cache, unless it exists or another thread or process copies it.

    Args:
        own: SHA-256 of the tars of the same dataset, which are not evicted.

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
        if not make_room(cache, shard.bytes, own):
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
    sha256 = hashlib.sha256()
    with path.open("r+b") as target:
        for start in range(0, shard.bytes, BLOCK):
            data = store.read(shard.name, start, min(BLOCK, shard.bytes - start))
            sha256.update(data)
            target.write(data)
        target.flush()
        os.fsync(target.fileno())
    if sha256.hexdigest() == shard.sha256:
        return True
    logger.warning("%s/%s: disagrees with %s; run `ucn verify`", store.uri, shard.name, MANIFEST)
    return False


def make_room(cache: LocalCache, size: int, own: set[str]) -> bool:
    """Evicts the least recently used copies until ``size`` more bytes fit.

    If they cannot fit, nothing is evicted. The caller must hold the folder's lock. Processes that
    are reading an evicted copy can finish reading it.

    Args:
        own: SHA-256 of tars that are not evicted.

    Returns:
        False if ``size`` bytes cannot fit.
    """
    used, evictable, now = 0, [], time.time()
    for path in cache.folder.iterdir():
        if path.name.startswith(TEMPORARY_PREFIX):
            if _is_abandoned(path):
                path.unlink()
            else:
                used += path.stat().st_size
        elif path.suffix == ".tar":
            status = path.stat()
            used += status.st_size
            if path.stem not in own and now - status.st_mtime > IN_USE_S:
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


def _is_abandoned(temporary: Path) -> bool:
    """Whether no process is writing to a temporary file."""
    with temporary.open("rb") as file:
        return _try_lock(file)


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Locks the folder against changes by other threads and processes."""
    with (folder / LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
