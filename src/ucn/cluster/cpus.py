"""CPUs that a training worker may use."""

import os

import joblib


def worker_cpus() -> int:
    """This worker's share of the node's CPUs, at least one.

    The CPUs are those of the process's affinity and of its container's quota (cgroup v1 and v2).
    Ray Train and torchrun set ``LOCAL_WORLD_SIZE``, the workers on a node.
    """
    workers = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cpus: int = joblib.cpu_count()
    return max(1, cpus // workers)
