"""A folder of photos: its files, duplicates, and splits."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path

from ucn.errors import UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".webp", ".bmp", ".tif", ".tiff"})
SPLITS = ("train", "val", "test")

# The end of a file tells compressed photos of one size apart without reading all of it.
_TAIL_BYTES = 4096


def find_photos(root: Path) -> dict[str, int]:
    """All photos below a folder: name below it, with ``/``, to size in bytes; sorted by name.

    Links to folders are not followed; hidden files and folders are left out.

    Raises:
        UserError: no such folder, or no photo in it.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name one that holds photos with --root")
    photos = dict(sorted(_scan(root, "")))
    if not photos:
        kinds = ", ".join(sorted(SUFFIXES))
        raise UserError(f"{root}: holds no photos ({kinds}); choose another --root")
    return photos


def find_copies(root: Path, photos: dict[str, int]) -> dict[str, str]:
    """Photos whose bytes are those of an earlier one: name to the earlier one's name.

    Only files of one size whose ends agree are read as a whole. What cannot be read is no copy.
    """
    copies: dict[str, str] = {}
    for same_size in _alike(photos, photos.__getitem__):
        for same_tail in _alike(same_size, lambda name: _tail(root / name)):
            for first, *others in _alike(same_tail, lambda name: _digest(root / name)):
                copies |= dict.fromkeys(others, first)
    return copies


def split_of(name: str, shares: tuple[int, int, int]) -> str:
    """``train``, ``val`` or ``test``, by the sha256 of the photo's file name without its folders.

    Args:
        name: of the photo.
        shares: of the three splits; their sum is the whole.
    """
    digest = hashlib.sha256(name.rpartition("/")[2].encode()).digest()
    place = int.from_bytes(digest[:8], "big") * sum(shares) / 2**64
    return SPLITS[(place >= shares[0]) + (place >= shares[0] + shares[1])]


def clean_name(name: str) -> str:
    """A name fit for keys: unique for each name, readable, without dots and slashes."""
    words = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
    return f"{words[-64:]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _scan(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _scan(Path(entry.path), f"{prefix}{entry.name}/")
            elif Path(entry.name).suffix.lower() in SUFFIXES and entry.is_file():
                yield f"{prefix}{entry.name}", entry.stat().st_size


def _alike(names: Iterable[str], value: Callable[[str], Hashable]) -> list[list[str]]:
    """Groups of at least two names of one value, in order; None is alike to nothing."""
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


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
