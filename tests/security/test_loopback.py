"""What the project starts by itself listens on this machine's loopback alone."""

import os
from pathlib import Path

import pytest

from ucn.cluster.session import ray_session

_LISTENING = "0A"
# As /proc/net writes 127.0.0.1 and ::ffff:127.0.0.1, and ::1.
_LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")


def descendants(process: int) -> set[int]:
    found: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == process:
            found |= {int(entry.name)} | descendants(int(entry.name))
    return found


def sockets(process: int) -> set[str]:
    """Inodes of the sockets of a process."""
    links = set()
    for entry in Path(f"/proc/{process}/fd").glob("*"):
        try:
            links.add(os.readlink(entry))
        except OSError:
            continue
    return {link[8:-1] for link in links if link.startswith("socket:[")}


@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no /proc of Linux")
def test_a_local_ray_is_nobody_elses() -> None:
    with ray_session(1):
        own = set().union(*(sockets(one) for one in descendants(os.getpid()) | {os.getpid()}))
        lines = [
            line.split()
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        ]
    listening = [line[1] for line in lines if line[3] == _LISTENING and line[9] in own]
    assert len(listening) >= 5
    assert {address.partition(":")[0] for address in listening} <= set(_LOOPBACK)
