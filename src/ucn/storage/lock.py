"""A lock on an output folder: one run at a time writes there.

Results do not depend on it. Every file is published atomically, and two runs of one configuration
write the same bytes. The lock avoids double work, and keeps two configurations out of one folder.

- Local folder: ``flock`` on a file in it, which the kernel releases when the process ends. NFS
  passes the lock to its server, unless mounted with ``nolock`` or ``local_lock``.
- S3: one object, which is created and replaced by conditional PUTs and renewed by a thread. It
  expires by the store's clock, never by a client's, so that a killed run delays the next one by
  the expiry at most. The owner's PID is not examined, not even on the owner's host: containers
  can share a host name without sharing PIDs.
- Other stores: pyarrow has no conditional PUT. A warning is logged, and nothing is locked.
"""

import errno
import fcntl
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ucn.errors import UserError
from ucn.storage.files import as_user_error, make_folder
from ucn.storage.stores import LocalStore, open_store

if TYPE_CHECKING:
    from ucn.storage.s3 import ObjectVersion, S3Store

logger = logging.getLogger(__name__)

LOCK_NAME = ".lease"
"""Name of the file or object in the folder; older versions use the same name and content."""
EXPIRY_VARIABLE = "UCN_LEASE_S"

_MAX_BYTES = 4096
_EXPIRY_S, _MIN_EXPIRY_S, _MAX_EXPIRY_S = 60.0, 3.0, 3600.0
# Three renewals in a row may fail.
_RENEWALS_PER_EXPIRY = 4
_CHECKS_PER_EXPIRY = 60
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class Lock:
    """A lock that is held."""

    def check(self) -> None:
        """Call before an action that another run must not repeat or overlap.

        Raises:
            UserError: the lock is lost; another run may be writing.
        """


def folder_lock(folder: str | Path) -> AbstractContextManager[Lock]:
    """Hold the lock of a folder, local or in a store, inside a ``with`` block.

    Raises:
        UserError: another run holds the lock (the message names its host, process and start), or
            the folder cannot be written.
    """
    store = open_store(folder)
    if isinstance(store, LocalStore):
        return file_lock(Path(store.uri))
    from ucn.storage.s3 import S3Store

    if isinstance(store, S3Store):
        return ObjectLock(store)
    logger.warning("%s: such a store has no locks; start no second run on this folder", store.uri)
    return nullcontext(Lock())


class Owner(BaseModel):
    """Content of the lock file or object. Its patterns keep control characters out of messages.

    Attributes:
        host, process: where the run's driver process is.
        since: when it took the lock, by its own clock; shown, never compared.
        token: random name of the owner.
        beat: number of renewals, which makes the content, and so the ETag, differ each time.
        expiry_s: seconds without renewal after which others may take the lock.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(pattern=r"^[A-Za-z0-9._-]{1,255}$")
    process: int
    since: str = Field(pattern=r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$")
    token: str = Field(pattern=r"^[0-9a-f]{32}$")
    beat: int = 0
    expiry_s: float = Field(ge=_MIN_EXPIRY_S, le=_MAX_EXPIRY_S)

    def __str__(self) -> str:
        return f"host {self.host}, process {self.process}, since {self.since}"

    def encode(self) -> bytes:
        return self.model_dump_json().encode()


def this_owner() -> Owner:
    """A new owner: this process.

    Raises:
        UserError: the environment asks for an expiry out of range.
    """
    expiry_s = os.environ.get(EXPIRY_VARIABLE, _EXPIRY_S)
    try:
        return Owner(
            host=re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:255] or "unknown",
            process=os.getpid(),
            since=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
            token=uuid.uuid4().hex,
            expiry_s=expiry_s,
        )
    except ValidationError as error:
        raise UserError(
            f"{EXPIRY_VARIABLE}={expiry_s}: not a number of seconds from {_MIN_EXPIRY_S:g} to "
            f"{_MAX_EXPIRY_S:g}; correct it, or leave it out"
        ) from error


def parse_owner(data: bytes) -> Owner | None:
    """Decode the content of a lock; None if it is not one."""
    try:
        return Owner.model_validate_json(data)
    except ValidationError:
        return None


def _refusal(folder: str | Path, owner: Owner | None) -> UserError:
    return UserError(
        f"{folder}: another run writes here ({owner or 'owner unknown'}); wait until it has "
        "finished, end it, or choose another output folder"
    )


class FileLock(Lock):
    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    def check(self) -> None:
        if not _is_same_file(self._path, self._descriptor):
            raise UserError(
                f"{self._path}: was removed during this run, so that another may have started; "
                "run again when no other does"
            )


@contextmanager
def file_lock(folder: Path) -> Iterator[FileLock]:
    """Hold the lock of a local folder, which is created if needed and removed if left empty."""
    is_new = not folder.exists()
    path, owner = folder / LOCK_NAME, this_owner()
    descriptor = _lock_file(path)
    try:
        with as_user_error(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, owner.encode(), 0)
        yield FileLock(path, descriptor)
    finally:
        # Removed before it is unlocked: afterwards it may be another run's.
        if _is_same_file(path, descriptor):
            path.unlink(missing_ok=True)
        os.close(descriptor)
        if is_new:
            with suppress(OSError):
                folder.rmdir()


def _lock_file(path: Path) -> int:
    """Open and lock the file, not the folder: NFS locks only files opened for writing."""
    while True:
        make_folder(path.parent)
        with as_user_error(path):
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            except FileNotFoundError:
                # The previous owner has just removed the folder.
                continue
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EISDIR):
                    raise UserError(f"{path}: not a regular file; remove it") from error
                raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = parse_owner(os.pread(descriptor, _MAX_BYTES, 0))
            os.close(descriptor)
            raise _refusal(path.parent, owner) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            logger.warning(
                "%s: the file system has no locks (%s); start no second run on this folder",
                path.parent,
                error.strerror,
            )
        # The previous owner may have removed the file after it was opened here.
        if _is_same_file(path, descriptor):
            return descriptor
        os.close(descriptor)


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False


class ObjectLock(Lock):
    """A lock object in S3, held inside a ``with`` block and renewed by a thread.

    Entering waits until the present owner renews its lock, which shows that it is alive, releases
    it, or lets it expire. An expired lock is replaced on the condition that it is unchanged. If an
    owner's renewal finds another owner's object, its lock is lost.

    Args:
        store: where the object is.
        owner: of the new lock.
        sleep: waits for some seconds; replaced in tests.
    """

    def __init__(
        self,
        store: "S3Store",
        owner: Owner | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store, self._owner, self._sleep = store, owner or this_owner(), sleep
        self._etag = ""
        self._lost: UserError | None = None
        self._stop = threading.Event()
        # A daemon thread: renewal ends with the process, however that ends.
        self._thread = threading.Thread(target=self._keep_renewing, name="lock", daemon=True)

    def __enter__(self) -> "ObjectLock":
        self._etag = self._acquire()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        # If the store does not answer, the lock expires.
        with suppress(UserError):
            # Renewed first, so that it cannot expire before it is deleted: some servers ignore
            # the condition of a DELETE.
            self._renew()
            if self._lost is None:
                self._store.delete_if(LOCK_NAME, self._etag)

    def check(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _acquire(self) -> str:
        """Create or take over the object, and return its ETag."""
        first_etag = None
        while True:
            found, owner = self._read()
            if found is not None and owner is None:
                raise UserError(
                    f"{self._store.uri}/{LOCK_NAME}: not a lock of this program; delete that object"
                )
            if found is None or owner is None or found.age_s > owner.expiry_s:
                if etag := self._put(found.etag if found else None):
                    return etag
                continue
            if first_etag not in (None, found.etag):
                raise _refusal(self._store.uri, owner)
            if first_etag is None:
                first_etag = found.etag
                logger.warning(
                    "%s: locked by another run (%s); waiting up to %.0f s to see if it is alive",
                    self._store.uri,
                    owner,
                    max(owner.expiry_s - found.age_s, 0) + 1,
                )
            self._sleep(owner.expiry_s / _CHECKS_PER_EXPIRY)

    def _read(self) -> tuple["ObjectVersion | None", Owner | None]:
        found = self._store.read_version(LOCK_NAME, _MAX_BYTES)
        return found, parse_owner(found.data) if found else None

    def _put(self, replaced: str | None) -> str | None:
        """Write the lock if the object has this ETag (None: does not exist); return the new ETag.

        Returns None if another owner has written it meanwhile.
        """
        etag = self._store.put_if(LOCK_NAME, self._owner.encode(), replaced)
        if etag is None:
            # Perhaps the PUT succeeded, its answer was lost, and the condition failed on a retry.
            found, owner = self._read()
            if found is not None and owner is not None and owner.token == self._owner.token:
                etag = found.etag
        return etag

    def _keep_renewing(self) -> None:
        while not self._stop.wait(self._owner.expiry_s / _RENEWALS_PER_EXPIRY):
            # The run meets the same error in its own requests, and reports it.
            with suppress(UserError):
                self._renew()

    def _renew(self) -> None:
        if self._lost is not None:
            return
        self._owner = self._owner.model_copy(update={"beat": self._owner.beat + 1})
        etag = self._put(self._etag)
        if etag is None:
            _, other = self._read()
            self._lost = UserError(
                f"{self._store.uri}: another run has taken over here ({other or 'ended'}), as this "
                f"one did not renew its lock for {self._owner.expiry_s:g} s; run again when no "
                "other does"
            )
        else:
            self._etag = etag
