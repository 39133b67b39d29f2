"""pyarrow's file systems: those of Ray Train, and the store for ``gs://`` and the like."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
from pyarrow import fs

from ucn.errors import UserError
from ucn.storage.addresses import redact
from ucn.storage.files import as_user_error, temporary_folder

_BLOCK = 8 << 20
_RETRY_S = 60


def filesystem(uri: str) -> tuple[Any, str]:
    """The file system of an absolute path or URI, and the path in it."""
    scheme, separator, location = uri.partition("://")
    if not separator:
        return fs.LocalFileSystem(), uri
    if scheme == "s3":
        # Only the bucket, as boto3 takes the rest literally and pyarrow would decode it. Unlike
        # S3FileSystem(), this honours AWS_ENDPOINT_URL.
        return fs.FileSystem.from_uri(f"s3://{location.partition('/')[0]}")[0], location
    # Without credentials, Google's client would retry for 15 minutes.
    limit = f"?retry_limit_seconds={_RETRY_S}" if scheme == "gs" else ""
    system, folder = fs.FileSystem.from_uri(uri + limit)
    return system, folder


def delete_entries(uri: str, names: Iterable[str]) -> None:
    """Delete files and subfolders of a folder, local or in a store, where they exist.

    Raises:
        UserError: the store cannot be used.
    """
    with storage_errors(uri):
        system, folder = filesystem(uri)
        for entry in system.get_file_info([f"{folder}/{name}" for name in names]):
            if entry.type == fs.FileType.Directory:
                system.delete_dir(entry.path)
            elif entry.type == fs.FileType.File:
                system.delete_file(entry.path)


def storage_errors(uri: str) -> AbstractContextManager[None]:
    """Raise errors of pyarrow's file systems as one line for the user."""
    return _arrow_errors(uri) if "://" in uri else as_user_error(Path(uri))


@contextmanager
def _arrow_errors(address: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(address) from None
    except (OSError, pyarrow.ArrowException) as error:
        first = redact((str(error).splitlines() or [type(error).__name__])[0])
        raise UserError(
            f"{address}: cannot be used ({first}); check the address and the credentials"
        ) from error


class ArrowStore:
    """Files below a URI of pyarrow's file systems; see :class:`ucn.storage.stores.Store`.

    A file is uploaded after it is finished. Object stores show it when the upload ends.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri}

    def sizes(self) -> dict[str, int]:
        with self._as_user_error(""):
            system, folder = self._place
            selector = fs.FileSelector(folder, allow_not_found=True)
            return {
                info.base_name: info.size
                for info in system.get_file_info(selector)
                if info.type == fs.FileType.File
            }

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        with self._as_user_error(name):
            system, folder = self._place
            with system.open_input_file(f"{folder}/{name}") as file:
                file.seek(start)
                data: bytes = file.read(size)
                return data

    def download(self, name: str, file: BinaryIO) -> None:
        with self._as_user_error(name):
            system, folder = self._place
            source = system.open_input_stream(f"{folder}/{name}", buffer_size=_BLOCK)
        file.seek(0)
        with source:
            while True:
                with self._as_user_error(name):
                    block = source.read(_BLOCK)
                if not block:
                    return
                # Errors of the local disk are the caller's.
                file.write(block)

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        with temporary_folder() as temporary:
            path = temporary / name
            with path.open("wb") as file:
                self.download(name, file)
            yield path

    @contextmanager
    def publishing(self, name: str) -> Iterator[Path]:
        with temporary_folder() as temporary:
            path = temporary / name
            yield path
            # pyarrow commits a stream even if its block is left by an exception, so the block
            # contains one write of the whole file.
            data = path.read_bytes()
            with self._as_user_error(name):
                system, folder = self._place
                with system.open_output_stream(f"{folder}/{name}") as target:
                    target.write(data)

    def delete(self, name: str) -> None:
        with self._as_user_error(name):
            system, folder = self._place
            if system.get_file_info(f"{folder}/{name}").type == fs.FileType.File:
                system.delete_file(f"{folder}/{name}")

    def prepare(self) -> None:
        with self._as_user_error(""):
            system, folder = self._place
            system.create_dir(folder, recursive=True)

    @cached_property
    def _place(self) -> tuple[Any, str]:
        return filesystem(self.uri)

    def _as_user_error(self, name: str) -> AbstractContextManager[None]:
        return _arrow_errors(f"{self.uri}/{name}".rstrip("/"))
