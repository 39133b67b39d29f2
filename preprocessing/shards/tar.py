"""Writes reproducible tars: the bytes depend only on names and data."""

import hashlib
import tarfile
from typing import BinaryIO


class TarWriter:
    """Writes a tar and computes its SHA-256.

    The bytes equal those of ``tarfile`` in USTAR format with fixed metadata. PAX would add headers
    for long names.

    Attributes:
        sha256: hash of everything written so far.
        size: number of bytes written so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def add(self, name: str, data: bytes) -> tuple[int, int]:
        """Appends a member; returns the offset and the size of its data."""
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
        """Ends the archive with two empty blocks, padded to a whole record."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self.size % tarfile.RECORDSIZE))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.sha256.update(data)
        self.size += len(data)
