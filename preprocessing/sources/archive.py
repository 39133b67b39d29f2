"""Paths into zip archives: datasets are read in place, and nothing is unpacked to the disk."""

import errno
import io
import os
import stat
import zlib
from collections.abc import Generator
from functools import lru_cache
from lzma import LZMAError
from pathlib import Path, PosixPath
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

from ucn.errors import UserError

_SUFFIX = ".zip"
# Each has an open file and the list of its members.
_OPEN_ARCHIVES = 16
# A member of a few megabytes can unpack to gigabytes.
_MAX_BYTES = 2**30
_ENCRYPTED = 1
_DAMAGE = (BadZipFile, zlib.error, LZMAError, EOFError, ValueError, NotImplementedError)


class ArchivePath(PosixPath):
    """A path below a zip archive, such as ``/data/a.zip/folder/file``.

    It is read as any other path, also after pickling: its archive is opened at the first use in a
    process, and again after a change. Errors are those of other paths; damage is an `OSError`.

    Raises:
        UserError: the archive is damaged, encrypted, or cannot be read.
    """

    def iterdir(self) -> Generator["ArchivePath", None, None]:
        archive, name = self._locate()
        if name not in archive.folders:
            raise NotADirectoryError(errno.ENOTDIR, "not a folder of the archive", str(self))
        yield from (self / child for child in archive.folders[name])

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        archive, name = self._locate()
        if name in archive.folders:
            mode, size = stat.S_IFDIR, 0
        else:
            mode, size = stat.S_IFREG, self._member(archive, name).file_size
        return os.stat_result((mode | 0o444, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self.is_file() or self.is_dir()

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        archive, name = self._locate()
        return name in archive.folders

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        archive, name = self._locate()
        return name in archive.members

    def read_bytes(self) -> bytes:
        archive, name = self._locate()
        member = self._member(archive, name)
        if member.file_size > _MAX_BYTES:
            raise OSError(errno.EFBIG, "larger than 1 GiB", str(self))
        try:
            return archive.file.read(member)
        except _DAMAGE as error:
            raise OSError(errno.EIO, f"damaged in its archive: {error}", str(self)) from None

    def open(self, *_: Any, **__: Any) -> Any:
        return io.BytesIO(self.read_bytes())

    def crc(self) -> int:
        """CRC-32 of the file's content, as its archive lists it."""
        return self._member(*self._locate()).CRC

    def _member(self, archive: "_Archive", name: str) -> ZipInfo:
        if name in archive.folders:
            raise IsADirectoryError(errno.EISDIR, "a folder", str(self))
        if name not in archive.members:
            raise FileNotFoundError(errno.ENOENT, "not in the archive", str(self))
        return archive.members[name]

    def _locate(self) -> tuple["_Archive", str]:
        """The archive and the name in it."""
        for path in (*reversed(self.parents), self):
            if path.suffix.lower() == _SUFFIX and os.path.isfile(path):
                state = os.stat(path)
                archive = _open(str(path), state.st_mtime_ns, state.st_size)
                return archive, "" if path == self else self.relative_to(path).as_posix()
        raise FileNotFoundError(errno.ENOENT, "no such archive", str(self))


class _Archive:
    """An open archive and its members by name and by folder."""

    def __init__(self, path: str) -> None:
        try:
            self.file = ZipFile(path)
        except (*_DAMAGE, OSError) as error:
            raise UserError(
                f"{path}: cannot be read as a zip archive ({error}); download it again"
            ) from None
        self.members: dict[str, ZipInfo] = {}
        self.folders: dict[str, dict[str, None]] = {"": {}}
        for info in self.file.infolist():
            if info.flag_bits & _ENCRYPTED:
                raise UserError(f"{path}: is encrypted; unpack it")
            name = info.filename.strip("/")
            if info.is_dir():
                self.folders.setdefault(name, {})
            else:
                self.members[name] = info
            while name:
                folder, _, child = name.rpartition("/")
                known = folder in self.folders
                self.folders.setdefault(folder, {})[child] = None
                name = "" if known else folder


@lru_cache(_OPEN_ARCHIVES)
def _open(path: str, _mtime_ns: int, _size: int) -> _Archive:
    return _Archive(path)


def open_root(path: Path) -> Path:
    """The path of a dataset; if it is a zip archive, as a folder."""
    return ArchivePath(path) if is_archive(path) else path


def is_archive(path: Path) -> bool:
    """Whether a path is a zip archive on the disk."""
    return path.suffix.lower() == _SUFFIX and os.path.isfile(path)
