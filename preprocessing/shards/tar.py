"""Writes reproducible tars: their bytes depend on names and data alone."""

import hashlib
import tarfile
from typing import BinaryIO


class TarWriter:
    """A tar in the making, hashed as it is written; each member is written in one go.

    Its bytes are those of ``tarfile`` in the USTAR format, which has no room for anything but what
    is set here; PAX would add headers for long names.

    Attributes:
        sha256: of everything written.
        size: bytes written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def add(self, name: str, data: bytes) -> tuple[int, int]:
        """Append a member; return the offset and the size of its data."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        info.mtime = 0
        info.mode = 0o644
        info.uname = info.gname = "ucn"
        self._write(info.tobuf(tarfile.USTAR_FORMAT))
        offset = self.size
        self._write(data)
        self._write(bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset, len(data)

    def finish(self) -> None:
        """End the archive: two empty blocks, and up to a whole record."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self.size % tarfile.RECORDSIZE))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.sha256.update(data)
        self.size += len(data)
