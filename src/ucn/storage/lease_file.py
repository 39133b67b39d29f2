"""A lease on a local folder: a lock of the kernel's, which dies with its process.

The lock is on a file in the folder, not on the folder: network file systems lock only what is
open for writing. NFS passes such locks on to its server, so that they hold between hosts, unless
it is mounted with ``nolock`` or ``local_lock``; then they hold on each host alone. Where a file
system has no locks at all, that is warned of and work goes on: a lease saves work, and no result
depends on it.
"""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ucn.errors import UserError
from ucn.storage.files import as_user_error, make_folder
from ucn.storage.lease_holder import (
    LARGEST_BYTES,
    LEASE,
    Holder,
    parse_holder,
    refusal,
    this_driver,
)

logger = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class FileLease:
    """A lock that is held; see :class:`ucn.storage.lease.Lease`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def check(self) -> None:
        if not _is_same(self._path, self._descriptor):
            raise UserError(
                f"{self._path}: was removed while this run worked, so that another may have begun; "
                "run again when no other does"
            )


@contextmanager
def hold_file(folder: Path) -> Iterator[FileLease]:
    """Hold a folder inside the block; it is made if it is not there. Leaves nothing of its own.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    made = not folder.exists()
    path, mine = folder / LEASE, this_driver()
    descriptor = _lock(path)
    try:
        with as_user_error(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, mine.model_dump_json().encode(), 0)
        yield FileLease(path, descriptor)
    finally:
        # While it is still locked: afterwards it may be another's.
        if _is_same(path, descriptor):
            path.unlink(missing_ok=True)
        os.close(descriptor)
        if made:
            with suppress(OSError):
                folder.rmdir()


def _lock(path: Path) -> int:
    """Open and lock a file; return its descriptor."""
    while True:
        make_folder(path.parent)
        descriptor = _open(path)
        if descriptor is None:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(descriptor)
            os.close(descriptor)
            raise refusal(str(path.parent), holder) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            logger.warning(
                "%s: the file system has no locks (%s); see to it that no second run writes here",
                path.parent,
                error.strerror,
            )
        # The one that held it before may have removed it since it was opened.
        if _is_same(path, descriptor):
            return descriptor
        os.close(descriptor)


def _open(path: Path) -> int | None:
    """Open the file, or make it; None where the last holder has just removed the folder."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            raise UserError(f"{path}: is no file that can be locked; remove it") from error
        with as_user_error(path):
            raise


def _read(descriptor: int) -> Holder | None:
    return parse_holder(os.pread(descriptor, LARGEST_BYTES, 0))


def _is_same(path: Path, descriptor: int) -> bool:
    """Whether a descriptor is still of the file that lies at the path."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False
