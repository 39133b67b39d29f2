"""Input files: listings, text lists, and identity for fingerprints and keys."""

import codecs
import hashlib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from ucn.errors import UserError
from ucn.preprocessing.sources.archive import ArchivePath
from ucn.storage.files import is_litter

PHOTO_SUFFIXES = (".png", ".ppm", ".jpg", ".jpeg", ".pgm", ".webp", ".bmp", ".tif", ".tiff")


def list_names(folder: Path) -> list[str]:
    """Names in a folder, sorted, without litter."""
    return sorted(path.name for path in folder.iterdir() if not is_litter(path.name))


def walk_files(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Walks through a folder and its subfolders, without hidden ones and litter.

    Links to folders outside the root are followed, each target once.

    Yields:
        Prefix of a folder, relative to the root, empty or with a final slash; and the sorted names
        of its files.

    Raises:
        UserError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: {error.strerror}; make the folder readable")

    def is_wanted(path: str) -> bool:
        name = os.path.basename(path)
        if name.startswith(".") or is_litter(name):
            return False
        # The files of a link's target inside the root are found without the link.
        return not os.path.islink(path) or not Path(os.path.realpath(path)).is_relative_to(real)

    real, seen = os.path.realpath(root), set[str]()
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if is_wanted(os.path.join(folder, name)))
        prefix = "" if folder == str(root) else f"{os.path.relpath(folder, root)}/"
        yield prefix, sorted(n for n in names if not n.startswith(".") and not is_litter(n))


def find_photo(path: Path) -> Path:
    """The path, or, if it is missing, that of the image with another suffix, if there is one.

    Users convert datasets, for example KITTI's PNG to JPEG.
    """
    paths = (path, *(path.with_name(name) for name in photo_names(path.stem)))
    return next((one for one in paths if file_size(one) >= 0), path)


def photo_names(stem: str) -> Iterator[str]:
    """Possible names of the image with a stem: `PHOTO_SUFFIXES` in any case."""
    for suffix in PHOTO_SUFFIXES:
        yield from (stem + suffix, stem + suffix.upper(), stem + suffix.title())


def read_lines(path: Path) -> list[str]:
    """Lines of a text file: UTF-8 or, by its byte order mark, UTF-16; with any line ends.

    Bytes that are not UTF-8 are kept as Python keeps them in file names (``surrogateescape``).

    Raises:
        OSError: the file cannot be read.
        ValueError: not a text file.
    """
    data = path.read_bytes()
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if utf16 else "utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise ValueError("not a text file")
    # `splitlines` would also split at characters that file names may contain.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def read_words(path: Path) -> list[str]:
    """Words of a text file, separated by blanks and line ends; errors as of `read_lines`."""
    return " ".join(read_lines(path)).split()


def split_names(line: str, counts: Collection[int]) -> list[str]:
    """Names in a line of a list: separated by tabs if that gives a wanted count, else by blanks."""
    names = [name.strip() for name in line.split("\t") if name.strip()]
    return names if len(names) in counts else line.split()


def file_size(path: Path) -> int:
    """Size of a file in bytes; -1 if it cannot be read."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def file_state(path: Path) -> Any:
    """Identifies a file for fingerprints: its size; of a member of an archive also its CRC-32."""
    size = file_size(path)
    return [size, path.crc()] if isinstance(path, ArchivePath) and size >= 0 else size


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file's content, hexadecimal; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def readable_names(names: Sequence[str]) -> dict[str, str]:
    """Map names to unique names of letters, digits and underscores."""
    plain = [re.sub(r"[^A-Za-z0-9]+", "_", Path(name).with_suffix("").as_posix()) for name in names]
    if len(set(plain)) < len(plain):
        plain = [f"{index:06d}_{name}" for index, name in enumerate(plain)]
    return dict(zip(names, plain, strict=True))
