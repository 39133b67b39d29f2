"""CPUs of a worker: the container's quota, shared by the workers of a node."""

import builtins
import io
import os
from typing import Any

import pytest

from ucn.cluster.cpus import worker_cpus

V2 = "/sys/fs/cgroup/cpu.max"
V1 = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("cgroup", "affinity", "workers", "expected"),
    [
        ({V2: "400000 100000\n"}, 64, 1, 4),
        ({V2: "400000 100000\n"}, 64, 2, 2),
        ({V2: "400000 100000\n"}, 3, 1, 3),
        ({V2: "150000 100000\n"}, 64, 1, 2),
        ({V2: "max 100000\n"}, 64, 4, 16),
        ({V1[0]: "300000\n", V1[1]: "100000\n"}, 64, 1, 3),
        ({V1[0]: "-1\n", V1[1]: "100000\n"}, 64, 1, 64),
        ({}, 2, 3, 1),
    ],
)
def test_a_worker_has_its_share_of_the_quota_and_of_the_affinity(
    cgroup: dict[str, str],
    affinity: int,
    workers: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exists, opened = os.path.exists, builtins.open

    def fake_exists(path: Any) -> bool:
        return path in cgroup if str(path).startswith("/sys/fs/cgroup") else exists(path)

    def fake_open(path: Any, *arguments: Any, **options: Any) -> Any:
        if path in cgroup:
            return io.StringIO(cgroup[path])
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os.path, "exists", fake_exists)
    monkeypatch.setattr(builtins, "open", fake_open)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(workers))
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    assert worker_cpus() == expected
