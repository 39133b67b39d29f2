"""What a container or a service may use, as Linux's control groups (version 2) say."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def cpu_limit(root: Path = ROOT, own: Path = OWN) -> float | None:
    """CPUs that this process may use, such as 1.5; None without a limit."""
    limits = []
    for text in _values("cpu.max", root, own):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def memory_limit(root: Path = ROOT, own: Path = OWN) -> int | None:
    """Bytes that this process and those beside it may take; None without a limit."""
    return min(
        (int(text) for text in _values("memory.max", root, own) if text.isdigit()), default=None
    )


def _values(name: str, root: Path, own: Path) -> Iterator[str]:
    """A setting of the process's group and of those above it: the least one holds."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    group = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = root / group.strip("/")
    for place in (folder, *folder.parents):
        if place.is_relative_to(root):
            try:
                yield (place / name).read_text().strip()
            except OSError:
                continue
