"""Threads: OpenMP's settings against the cores that there are."""

import math
import os
from collections.abc import Mapping

from ucn.pipeline.doctor.cgroup import cpu_limit
from ucn.pipeline.doctor.finding import Finding


def look_at_threads(environment: Mapping[str, str]) -> list[Finding]:
    """How many threads torch and OpenCV start, and how they wait."""
    # Not on macOS.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    return [
        judge_threads(cores, cpu_limit(), environment.get("OMP_NUM_THREADS")),
        judge_waiting(environment.get("OMP_WAIT_POLICY")),
    ]


def judge_threads(cores: int, limit: float | None, wanted: str | None) -> Finding:
    """Whether there are as many threads as cores, at most.

    Args:
        cores: that this process may run on.
        limit: CPUs that its control group may use; None for no limit.
        wanted: ``OMP_NUM_THREADS``.
    """
    name = "threads"
    usable = max(1, math.ceil(min(cores, limit or cores)))
    text = f"{cores} cores" + (f", limited to {limit:g}" if limit and limit < cores else "")
    text += f", OMP_NUM_THREADS {wanted or 'not set'}"
    remedy = f"set OMP_NUM_THREADS={usable}"
    if wanted and not all(part.isdigit() and int(part) for part in wanted.split(",")):
        return Finding(name, "problem", f"{text}: is no number", remedy)
    if wanted and int(wanted.split(",")[0]) > usable:
        return Finding(name, "warning", f"{text}: more threads than cores", remedy)
    if not wanted and usable < cores:
        return Finding(name, "warning", f"{text}: {cores} threads would share them", remedy)
    return Finding(name, "ok", text)


def judge_waiting(policy: str | None) -> Finding:
    """Whether threads that wait leave their core to others; ``OMP_WAIT_POLICY``."""
    text = f"OMP_WAIT_POLICY {policy or 'not set'}"
    if policy and policy.upper() == "ACTIVE":
        return Finding(
            "idle threads", "warning", f"{text}: threads spin while they wait", "set it to PASSIVE"
        )
    return Finding("idle threads", "ok", text)
