"""A Ray cluster of two machines, a head and a node, each of which can lose its power.

Run as a script it is that cluster: it starts a node for every line on its standard input.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TextIO

import psutil

WORK = ("ray::_make_shard", "ray::RayTrainWorker")
MEMORY = 80 << 20
NOTICE_SOON = {
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 2000,
    "health_check_failure_threshold": 4,
}
"""Ray takes a node that does not answer for dead after 8 s instead of 15."""
START_S = 180.0
ATTEMPTS = 3
"""A busy machine can fail to start Ray in the times that Ray allows itself."""


class Machines:
    """A head and a node, on loopback, with a CPU each; start them before anything else.

    Args:
        said: takes what they say.
    """

    def __init__(self, said: TextIO) -> None:
        self._said = said
        self._cluster: subprocess.Popen[str] | None = None
        self._head: list[psutil.Process] = []
        self._node: list[psutil.Process] = []
        self._environment = dict(os.environ) | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            # All is on loopback; see `ray_session`.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            # Workers come as late as drivers do, whatever else this machine does.
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
        }

    def start_what_is_down(self) -> None:
        """Start the head, at a new address, and the node, as far as they do not run."""
        for attempt in range(ATTEMPTS):
            try:
                if not _all_run(self._head):
                    self._start_head()
                if not _all_run(self._node):
                    self._start_node()
            except (psutil.NoSuchProcess, EOFError, BrokenPipeError):
                if attempt == ATTEMPTS - 1:
                    raise
                _kill_all(self._head)
            else:
                return

    def _start_head(self) -> None:
        self.close()
        self._cluster = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=self._environment,
            start_new_session=True,
        )
        self._head = self._told()

    def _start_node(self) -> None:
        assert self._cluster is not None
        assert self._cluster.stdin is not None
        self._cluster.stdin.write("node\n")
        self._cluster.stdin.flush()
        self._node = self._told()

    @property
    def environment(self) -> dict[str, str]:
        """Of a driver that joins the cluster."""
        # It ends when it has had no head for so long, by itself after 60 s.
        return self._environment | {"RAY_gcs_rpc_server_reconnect_timeout_s": "15"}

    def workers(self) -> list[psutil.Process]:
        """The processes that do the work now, on either machine."""
        both = [one for process in (*self._head, *self._node) for one in family(process)]
        return [one for one in both if _title(one).startswith(WORK)]

    def kill_head(self) -> None:
        """SIGKILL all processes of the head."""
        _kill_all(self._head)

    def kill_node(self) -> None:
        """SIGKILL all processes of the node."""
        _kill_all(self._node)

    def close(self) -> None:
        """End both."""
        _kill_all([*self._node, *self._head])
        if self._cluster is not None:
            with suppress(ProcessLookupError):
                # And what lost its parent before.
                os.killpg(self._cluster.pid, signal.SIGKILL)
            self._cluster.communicate()
            self._cluster = None

    def _told(self) -> list[psutil.Process]:
        """The processes of the machine that has just started."""
        assert self._cluster is not None
        assert self._cluster.stdout is not None
        line = self._cluster.stdout.readline()
        if not line:
            self._said.seek(0)
            raise EOFError(f"the cluster ended while it started: {self._said.read()}")
        started = json.loads(line)
        self._environment["RAY_ADDRESS"] = started["address"]
        return [psutil.Process(pid) for pid in started["processes"]]


@contextmanager
def two_machines() -> Iterator[Machines]:
    """Have two machines inside the block."""
    with tempfile.TemporaryFile("w+") as said:
        machines = Machines(said)
        try:
            machines.start_what_is_down()
            yield machines
        finally:
            machines.close()


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all that descend from it; empty where it has ended."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL: nobody is asked."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _kill_all(processes: list[psutil.Process]) -> None:
    every = [one for process in processes for one in family(process)]
    kill(every)
    psutil.wait_procs(every, timeout=10)


def _all_run(processes: list[psutil.Process]) -> bool:
    running = [one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes]
    return bool(running) and all(running)


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _serve() -> None:
    """Be the cluster; tell of each machine that is up in one line."""
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 1, "object_store_memory": MEMORY}
    cluster = Cluster()
    for role in chain(["head"], sys.stdin):
        first = {"include_dashboard": False, "_system_config": NOTICE_SOON}
        node = cluster.add_node(wait=False, **options | (first if role == "head" else {}))
        # Busy machines take longer than the half minute that it would wait by itself.
        cluster._wait_for_node(node, START_S)
        pids = [info.process.pid for infos in node.all_processes.values() for info in infos]
        sys.stdout.write(json.dumps({"address": cluster.address, "processes": pids}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
