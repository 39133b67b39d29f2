"""Free disk where outputs, Ray's sessions and the cache of shards lie."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ucn.pipeline.doctor.finding import Finding

_GIB = 2**30
_LEAST_GIB, _FEW_GIB = 1.0, 10.0
# Ray writes nothing more to a disk that is fuller (its local_fs_capacity_threshold).
_FULL_FOR_RAY = 0.95


def look_at_disks(folders: Sequence[tuple[str, Path]], cache_gib: float) -> list[Finding]:
    """The room of each file system that is written to.

    Args:
        folders: with what they are for; ``ray`` and ``cache`` have demands of their own. They need
            not exist.
        cache_gib: what the cache of shards may take.
    """
    disks: dict[int, tuple[Path, list[str]]] = {}
    for name, folder in folders:
        parent = existing_parent(folder)
        names = disks.setdefault(os.stat(parent).st_dev, (parent, []))[1]
        if name not in names:
            names.append(name)
    findings = []
    for parent, names in disks.values():
        usage = shutil.disk_usage(parent)
        findings.append(judge_disk(names, parent, usage.total, usage.free, cache_gib))
    return findings


def judge_disk(names: list[str], folder: Path, total: int, free: int, cache_gib: float) -> Finding:
    """Whether a file system has room for what is written to it.

    Args:
        names: what it is for.
        folder: on it.
        total: bytes.
        free: bytes.
        cache_gib: what the cache of shards may take.
    """
    name = "disk"
    text = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free at {folder} ({', '.join(names)})"
    if free < _LEAST_GIB * _GIB:
        return Finding(name, "problem", text, "free some space, or choose another folder")
    if "ray" in names and free < (1 - _FULL_FOR_RAY) * total:
        remedy = "free some space, or set RAY_TMPDIR to a folder of another disk"
        return Finding(name, "problem", f"{text}, and Ray stops at 95 % full", remedy)
    if "cache" in names and free < cache_gib * _GIB:
        remedy = f"lower data.cache_gib (now {cache_gib:g}), or set XDG_CACHE_HOME to another disk"
        return Finding(name, "warning", f"{text}, the cache of shards may take more", remedy)
    if free < _FEW_GIB * _GIB:
        return Finding(name, "warning", text, "free some space")
    return Finding(name, "ok", text)


def existing_parent(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    path = path.absolute()
    return next((folder for folder in (path, *path.parents) if folder.is_dir()), Path("/"))
