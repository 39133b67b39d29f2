"""Stores: a flat folder of files on a local disk, in S3, or in another pyarrow file system.

S3 is accessed with boto3, other remote file systems with pyarrow. obstore could replace both, but
it hides the ``Date`` header that the lock needs (:mod:`.lock`), and S3's error codes, which the
error messages depend on.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from ucn.errors import UserError
from ucn.storage.files import (
    atomic_folder,
    atomic_path,
    make_folder,
    sweep_temporaries,
    temporary_folder,
)


class Store(Protocol):
    """A folder of complete files. Picklable and thread-safe.

    All methods raise UserError, with the address, if the store cannot be reached or denies access.
    """

    @property
    def uri(self) -> str:
        """URI or local path of the folder, without a trailing slash."""
        ...

    def sizes(self) -> dict[str, int]:
        """Size in bytes of each file by name, from one listing; empty if the folder is missing.

        Includes temporary files (``.tmp-...``) that killed writers left in a local folder.
        """
        ...

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """Reads a file, or ``size`` bytes from ``start``; fewer if the file ends before.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        ...

    def download(self, name: str, file: BinaryIO) -> None:
        """Writes a whole file, read as one stream, into ``file`` from its start.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        ...

    def local_copy(self, name: str) -> AbstractContextManager[Path]:
        """Yields a local path of the file, valid inside the block.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        ...

    def publishing(self, name: str) -> AbstractContextManager[Path]:
        """Yields a local path to write to, published as ``name`` if the block succeeds.

        Readers see the complete file or none. An existing file is replaced.
        """
        ...

    def delete(self, name: str) -> None:
        """Deletes a file if it exists."""
        ...

    def prepare(self) -> None:
        """Creates the folder, and deletes temporary files of killed writers."""
        ...


def open_store(uri: str | Path) -> Store:
    """Opens the store at a local path, ``file://``, ``s3://``, or another URI known to pyarrow.

    Raises:
        UserError: the URI is not a folder, or contains credentials.
    """
    text = absolute_uri(uri)
    scheme, separator, location = text.partition("://")
    if not separator:
        return LocalStore(text)
    if "@" in location.partition("/")[0] or "?" in location:
        # The URI is not shown, since it may contain a secret.
        raise UserError(
            f"{scheme}://...: a URI with credentials or options; write {scheme}://BUCKET/FOLDER "
            "and set the rest in the environment"
        )
    if scheme == "s3":
        from ucn.storage.s3 import S3Store

        return S3Store(text)
    from ucn.storage.arrow import ArrowStore

    return ArrowStore(text)


def absolute_uri(uri: str | Path) -> str:
    """Makes a local path absolute; removes trailing slashes from a URI."""
    text = str(uri).removeprefix("file://")
    if "://" in text:
        return text.rstrip("/")
    return str(Path(text).expanduser().absolute())


def write_bytes(store: Store, name: str, data: bytes) -> None:
    """Writes ``data`` to the file ``name``."""
    with store.publishing(name) as path:
        path.write_bytes(data)


@contextmanager
def publishing_folder(uri: str | Path, marker: str) -> Iterator[Path]:
    """Yields a local folder to write to, published as the folder ``uri`` if the block succeeds.

    A local folder is replaced by a rename. In a store, ``marker`` is deleted first and uploaded
    last, so that a reader sees it only beside the files that it belongs to.

    Args:
        uri: the folder; it has no subfolders.
        marker: name of the file that completes the folder.
    """
    store = open_store(uri)
    if isinstance(store, LocalStore):
        with atomic_folder(store.uri) as folder:
            yield folder
        return
    with temporary_folder() as folder:
        yield folder
        store.prepare()
        store.delete(marker)
        for path in sorted(folder.iterdir(), key=lambda path: path.name == marker):
            with store.publishing(path.name) as target:
                shutil.copyfile(path, target)


@dataclass(frozen=True)
class LocalStore:
    """Files in a local folder, written atomically; see :class:`Store`."""

    uri: str

    @property
    def _folder(self) -> Path:
        return Path(self.uri)

    def sizes(self) -> dict[str, int]:
        try:
            with os.scandir(self._folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        with (self._folder / name).open("rb") as file:
            file.seek(start)
            # read() allocates the requested size, which may come from an untrusted index.
            rest = max(os.fstat(file.fileno()).st_size - start, 0)
            return file.read(-1 if size is None else min(size, rest))

    def download(self, name: str, file: BinaryIO) -> None:
        with (self._folder / name).open("rb") as source:
            file.seek(0)
            shutil.copyfileobj(source, file)

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        path = self._folder / name
        if not path.is_file():
            raise FileNotFoundError(path)
        yield path

    @contextmanager
    def publishing(self, name: str) -> Iterator[Path]:
        with atomic_path(self._folder / name) as temporary:
            yield temporary

    def delete(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def prepare(self) -> None:
        make_folder(self._folder)
        sweep_temporaries(self._folder)
