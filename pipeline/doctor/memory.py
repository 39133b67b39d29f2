"""Memory, and the shared memory that Ray keeps its objects in."""

import shutil
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from ucn.pipeline.doctor.cgroup import memory_limit
from ucn.pipeline.doctor.finding import Finding

_GIB = 2**30
_LEAST_GIB, _FREE_GIB = 4.0, 2.0
_SHARED = Path("/dev/shm")
# Of the memory, for Ray's object store (its default_object_store_memory_proportion).
_RAYS_SHARE = 0.3


def look_at_memory() -> list[Finding]:
    """The memory of this machine, or of the container."""
    memory = psutil.virtual_memory()
    total = min(memory.total, memory_limit() or memory.total)
    findings = [judge_memory(total, min(memory.available, total))]
    # macOS has none, and needs none.
    if _SHARED.is_dir():
        findings.append(judge_shared(shutil.disk_usage(_SHARED).total, total))
    return findings


def judge_memory(total: int, available: int) -> Finding:
    """Whether there is enough memory; bytes."""
    text = f"{available / _GIB:.1f} of {total / _GIB:.1f} GiB available"
    if total < _LEAST_GIB * _GIB:
        remedy = "use a machine with 4 GiB or more; Ray kills tasks when memory runs out"
        return Finding("memory", "warning", text, remedy)
    if available < _FREE_GIB * _GIB:
        return Finding("memory", "warning", text, "end other programs, or lower workers")
    return Finding("memory", "ok", text)


def judge_shared(shared: int, total: int) -> Finding:
    """Whether Ray's objects fit into shared memory; else it keeps them on disk, slowly; bytes."""
    text = f"{shared / _GIB:.1f} GiB"
    wanted = _RAYS_SHARE * total
    if shared < wanted:
        size = f"{wanted / _GIB:.0f}g"
        return Finding(
            str(_SHARED),
            "warning",
            f"{text}, Ray wants {wanted / _GIB:.1f}",
            f"docker run --shm-size={size}, or an emptyDir of medium Memory on Kubernetes",
        )
    return Finding(str(_SHARED), "ok", text)
