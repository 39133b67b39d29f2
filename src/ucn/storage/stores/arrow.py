"""What pyarrow reaches by a URI, such as ``gs://``, as a store."""

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
_PATIENCE_S = 60


class ArrowStore:
    """Files below a URI of pyarrow's file systems; see :class:`.base.Store`.

    An object is uploaded from a finished file; object stores show it when its upload ends.

    Args:
        uri: such as ``gs://BUCKET/PREFIX``.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri}

    def sizes(self) -> dict[str, int]:
        with self._told(""):
            system, folder = self._place
            selector = fs.FileSelector(folder, allow_not_found=True)
            return {
                info.base_name: info.size
                for info in system.get_file_info(selector)
                if info.type == fs.FileType.File
            }

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        with self._told(name):
            system, folder = self._place
            with system.open_input_file(f"{folder}/{name}") as file:
                file.seek(start)
                data: bytes = file.read(size)
                return data

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        with temporary_folder() as temporary:
            path = temporary / name
            with self._told(name):
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
            # A stream commits what it has when its block is left by an error: nothing but the one
            # write of the whole may fail inside.
            data = path.read_bytes()
            with self._told(name):
                system, folder = self._place
                with system.open_output_stream(f"{folder}/{name}") as target:
                    target.write(data)

    def delete(self, name: str) -> None:
        with self._told(name):
            system, folder = self._place
            if system.get_file_info(f"{folder}/{name}").type == fs.FileType.File:
                system.delete_file(f"{folder}/{name}")

    def prepare(self) -> None:
        with self._told(""):
            system, folder = self._place
            system.create_dir(folder, recursive=True)

    @cached_property
    def _place(self) -> tuple[Any, str]:
        # Without credentials Google's client would try for a quarter of an hour.
        limit = f"?retry_limit_seconds={_PATIENCE_S}" if self.uri.startswith("gs://") else ""
        system, folder = fs.FileSystem.from_uri(self.uri + limit)
        return system, folder

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Turn what the user can mend into one line."""
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
