"""Atomic publication of files: a reader sees the whole file or none.

A file is written under a temporary name in the same folder, flushed to disk, and renamed.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ucn.errors import UserError

TEMPORARY_PREFIX = ".tmp-"

LONGEST_SOCKET_FOLDER = 107 - 69
"""Longest path, in bytes, of a folder for sockets. The path of a socket has at most 107 bytes, and
Ray appends ``/ray/session_YYYY-MM-DD_HH-MM-SS_MICROS_PID/sockets/plasma_store``."""

# Files and folders that operating systems and NAS devices leave beside the user's files.
_LITTER = frozenset(
    (
        *(".ds_store", "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"),
        *("system volume information", "lost+found", "@eadir"),
    )
)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}-{path.name}"
    make_folder(path.parent)
    with as_user_error(path):
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; swap it in for ``path`` if the block succeeds.

    Raises:
        UserError: the parent cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}-{path.name}"
    with as_user_error(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                _sync(file)
            if path.exists():
                retired = temporary.with_name(f"{temporary.name}-old")
                os.replace(path, retired)
                os.replace(temporary, path)
                shutil.rmtree(retired)
            else:
                os.replace(temporary, path)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Publish ``data`` at ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Publish ``text`` as UTF-8 at ``path`` atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, value: Any) -> None:
    """Publish ``value`` as readable JSON with sorted keys: equal values give equal bytes."""
    write_text(path, as_json(value))


def as_json(value: Any) -> str:
    """The text that `write_json` writes."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def make_folder(path: Path | str) -> None:
    """Create a folder and its parents, and check that it can be written.

    Raises:
        UserError: it cannot be created or written.
    """
    path = Path(path)
    with as_user_error(path):
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "no permission")


def socket_folder() -> str:
    """The temporary folder, or /tmp if a socket in it could have too long a path."""
    folder = tempfile.gettempdir()
    fits = len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER
    return folder if fits or not os.access("/tmp", os.W_OK) else "/tmp"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder below ``TMPDIR``, deleted afterwards, for a file before or after a transfer.

    Raises:
        UserError: it cannot be written, or the disk is full.
    """
    with (
        as_user_error(Path(tempfile.gettempdir())),
        tempfile.TemporaryDirectory(prefix="ucn-") as folder,
    ):
        yield Path(folder)


def sweep_temporaries(folder: Path) -> int:
    """Delete the temporary files of killed writers in ``folder``; return their number."""
    leftovers = list(folder.glob(f"{TEMPORARY_PREFIX}*"))
    for leftover in leftovers:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
    return len(leftovers)


@contextmanager
def as_user_error(path: Path) -> Iterator[None]:
    """Raise the errors that a user can fix as UserError, with the path and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: the disk is full; free some space and run again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
            raise UserError(
                f"{path}: cannot be written ({error.strerror}); choose another output folder"
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise UserError(
                f"{path}: a file is in the way of this folder; choose another output folder"
            ) from error
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_litter(name: str) -> bool:
    """Whether an operating system made the file or folder, such as ``._NAME`` or ``Thumbs.db``."""
    return name.startswith("._") or name.lower() in _LITTER


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
