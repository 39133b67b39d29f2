"""File systems of a few pages, mounted by root alone: real full disks and real read-only ones."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = os.sysconf("SC_PAGE_SIZE")


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    """Have a file system in memory of ``size`` bytes, rounded up to pages, at a new folder.

    The test is skipped where mounting is not allowed.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", _size(size), "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # Whoever still has a file open there does not keep it.
        subprocess.run(["umount", "--lazy", folder], check=True)


def resize(folder: Path, size: int) -> None:
    """Let a mounted file system have ``size`` bytes; what is there stays."""
    subprocess.run(["mount", "-o", f"remount,{_size(size)}", folder], check=True)


def make_read_only(folder: Path) -> None:
    """Refuse all writing on a mounted file system, root's too."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


def pages(size: int) -> int:
    """Bytes that a file of ``size`` bytes takes."""
    return -(-size // PAGE) * PAGE


def _size(size: int) -> str:
    # None at all would mean no limit.
    return f"size={max(pages(size), PAGE)}"
