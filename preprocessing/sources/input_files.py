"""Identity of input files, for fingerprints and keys."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path


def file_size(path: Path) -> int:
    """Size of a file in bytes; -1 if it cannot be read."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


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
