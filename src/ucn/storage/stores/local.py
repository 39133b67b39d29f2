"""A local folder as a store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ucn.storage import files as storage


@dataclass(frozen=True)
class LocalStore:
    """Files in a local folder, published by an atomic rename; see :class:`.base.Store`."""

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
            # Room is made for as much as is asked for, which may be what a stranger's index says.
            rest = max(os.fstat(file.fileno()).st_size - start, 0)
            return file.read(-1 if size is None else min(size, rest))

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        path = self._folder / name
        if not path.is_file():
            raise FileNotFoundError(path)
        yield path

    @contextmanager
    def publishing(self, name: str) -> Iterator[Path]:
        with storage.atomic_path(self._folder / name) as temporary:
            yield temporary

    def delete(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def prepare(self) -> None:
        storage.make_folder(self._folder)
        storage.sweep_temporaries(self._folder)
