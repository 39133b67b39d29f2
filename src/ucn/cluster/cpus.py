"""CPUs that a training worker may use, and how it uses them."""

import os

import joblib

WORKER_ENVIRONMENT = {
    # Waiting OpenMP threads must not spin: they would slow down the readers.
    "OMP_WAIT_POLICY": "PASSIVE",
    # glibc otherwise returns tensors of some MiB to the system, and takes them again page by page.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
}
"""Environment of a training worker; it must be set when the process starts."""


def worker_cpus() -> int:
    """This worker's share of the node's CPUs, at least one.

    The CPUs are those of the process's affinity and of its container's quota (cgroup v1 and v2).
    Ray Train and torchrun set ``LOCAL_WORLD_SIZE``, the workers on a node.
    """
    workers = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cpus: int = joblib.cpu_count()
    return max(1, cpus // workers)
