"""What a store is: a flat folder of files, each there whole or not at all."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class Store(Protocol):
    """A folder of finished files, local or remote. Picklable; safe to use from several threads.

    Every method raises UserError, naming the place, where the store cannot be reached or refuses.
    """

    @property
    def uri(self) -> str:
        """Of the folder, without a slash at the end."""
        ...

    def sizes(self) -> dict[str, int]:
        """Bytes of each file by name, in one listing; empty where no folder is.

        What a killed writer left in a local folder is listed too (``.tmp-...``).
        """
        ...

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """A file, or ``size`` bytes of it from ``start``; fewer where the file ends before.

        Raises:
            FileNotFoundError: there is none.
        """
        ...

    def local_copy(self, name: str) -> AbstractContextManager[Path]:
        """A path at which the file can be read while the block lasts.

        Raises:
            FileNotFoundError: there is none.
        """
        ...

    def publishing(self, name: str) -> AbstractContextManager[Path]:
        """A path to write a file to, which is published under ``name`` if the block succeeds.

        A reader sees the whole file or none. A file of that name is replaced.
        """
        ...

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        ...

    def prepare(self) -> None:
        """Make the folder, and remove what killed writers left in it."""
        ...


def write_bytes(store: Store, name: str, data: bytes) -> None:
    """Publish ``data`` under ``name``."""
    with store.publishing(name) as path:
        path.write_bytes(data)
