"""A folder of photos: its files, duplicates, and splits."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

from ucn.errors import UserError
from ucn.preprocessing.sources.input_files import (
    PHOTO_SUFFIXES,
    file_digest,
    file_size,
    walk_files,
)

SPLITS = ("train", "val", "test")

# The end of a file distinguishes compressed photos of equal size without reading whole files.
_TAIL_BYTES = 4096


def find_photos(root: Path) -> dict[str, int]:
    """Find all photos in a folder and its subfolders.

    Links are followed. Hidden files and folders are left out.

    Returns:
        Name to size in bytes, sorted by name. Names are relative to the folder, with ``/``.

    Raises:
        UserError: the folder is missing or has no photos.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name one that holds photos with --root")
    names = (prefix + name for prefix, names in walk_files(root) for name in names)
    photos = {
        name: file_size(root / name)
        for name in sorted(names)
        if name.lower().endswith(PHOTO_SUFFIXES)
        and ((root / name).is_file() or (root / name).is_symlink())
    }
    if not photos:
        kinds = ", ".join(sorted(PHOTO_SUFFIXES))
        raise UserError(f"{root}: holds no photos ({kinds}); choose another --root")
    return photos


def find_copies(root: Path, photos: dict[str, int]) -> dict[str, str]:
    """Find photos with the same bytes as an earlier photo.

    Only files with equal sizes and equal ends are read completely. An unreadable file is never a
    copy.

    Args:
        root: folder of the photos.
        photos: the result of :func:`find_photos`.

    Returns:
        Name of each copy to the name of the first such photo.
    """
    copies: dict[str, str] = {}
    for same_size in _alike(photos, photos.__getitem__):
        for same_tail in _alike(same_size, lambda name: _tail(root / name)):
            for first, *others in _alike(same_tail, lambda name: file_digest(root / name)):
                copies |= dict.fromkeys(others, first)
    return copies


def split_of(name: str, shares: tuple[int, int, int]) -> str:
    """Split of a photo by the sha256 of its file name without folders.

    Args:
        name: name of the photo.
        shares: relative sizes of train, val and test; they need not sum to 1.

    Returns:
        ``train``, ``val`` or ``test``.
    """
    digest = hashlib.sha256(os.fsencode(name.rpartition("/")[2])).digest()
    place = int.from_bytes(digest[:8], "big") * sum(shares) / 2**64
    return SPLITS[(place >= shares[0]) + (place >= shares[0] + shares[1])]


def clean_name(name: str) -> str:
    """Make a readable and unique name for keys, without dots and slashes."""
    words = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
    return f"{words[-64:]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def _alike(names: Iterable[str], value: Callable[[str], Hashable]) -> list[list[str]]:
    """Groups of at least two names with equal values, in order, without those of value None."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for name in names:
        groups[value(name)].append(name)
    groups.pop(None, None)
    return [group for group in groups.values() if len(group) > 1]


def _tail(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            file.seek(-min(_TAIL_BYTES, path.stat().st_size), os.SEEK_END)
            return file.read()
    except OSError:
        return None
