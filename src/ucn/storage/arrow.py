"""The store for other URIs that pyarrow knows, such as ``gs://``."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import fs

from ucn.errors import UserError
from ucn.storage.addresses import redact
from ucn.storage.files import temporary_folder

_BLOCK = 8 << 20
_RETRY_S = 60


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

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        with temporary_folder() as temporary:
            path = temporary / name
            with self._as_user_error(name):
                system, folder = self._place
                with (
                    system.open_input_stream(f"{folder}/{name}", buffer_size=_BLOCK) as source,
                    path.open("wb") as target,
                ):
                    shutil.copyfileobj(source, target, _BLOCK)
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
        # Without credentials, Google's client would retry for 15 minutes.
        limit = f"?retry_limit_seconds={_RETRY_S}" if self.uri.startswith("gs://") else ""
        system, folder = fs.FileSystem.from_uri(self.uri + limit)
        return system, folder

    @contextmanager
    def _as_user_error(self, name: str) -> Iterator[None]:
        """Raise errors of pyarrow as one line for the user."""
        place = f"{self.uri}/{name}".rstrip("/")
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(place) from None
        except (OSError, pyarrow.ArrowException) as error:
            first = redact((str(error).splitlines() or [type(error).__name__])[0])
            raise UserError(
                f"{place}: cannot be used ({first}); check the address and the credentials"
            ) from error
