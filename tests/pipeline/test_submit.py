"""Jobs on a real Ray head with token authentication: exit codes, coming back, lost connections."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from ucn.pipeline.doctor.ray_cluster import check_dashboard, check_head
from ucn.pipeline.main import main

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
Ucn = Callable[..., tuple[int, str, str]]

# First `ucn` on the PATH of the cluster: it writes lines until a file exists, then runs `ucn`.
_HELD_UCN = """#!/bin/sh
i=0
while [ ! -e {go} ]; do i=$((i+1)); echo "tick $i"; sleep 0.05; done
exec {python} -m ucn.pipeline.main "$@"
"""


@dataclass(frozen=True)
class Cluster:
    address: str
    port: int
    gcs: int
    environment: dict[str, str]
    go: Path

    @property
    def headers(self) -> dict[str, str]:
        token = Path(self.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
        return {"Authorization": f"Bearer {token}"}

    def start(self, *args: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ucn.pipeline.main", *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment | environment,
        )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """The exit code of a process, and what of its output was not read yet."""
    # Not communicate(), which loses what a line read before has left in the buffer.
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.read(), process.stderr.read()
    return process.wait(60), out, err


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "bin").mkdir()
    held = folder / "bin" / "ucn"
    held.write_text(_HELD_UCN.format(go=folder / "go", python=sys.executable))
    held.chmod(0o755)
    (folder / "token").write_text(secrets.token_hex(32))
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        environment.pop(name, None)
    gcs, dashboard, *others = free_ports(6)
    names = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent")
    ports = [f"--{name}-port={port}" for name, port in zip(names, others, strict=False)]
    # Ray's sockets lie below it, and their paths must be short.
    short = tempfile.mkdtemp(prefix="ucn-ray-", dir="/tmp")
    with (folder / "ray.log").open("w") as log:
        head = subprocess.Popen(
            [
                *(sys.executable, "-c", "from ray.scripts.scripts import main; main()"),
                *("start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2"),
                *("--node-ip-address=127.0.0.1", f"--port={gcs}", f"--temp-dir={short}"),
                *("--object-store-memory=80000000", "--include-log-monitor=false"),
                *(f"--dashboard-port={dashboard}", *ports),
                f"--metrics-export-port={others[-1]}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        _wait_for_port(dashboard)
        address = f"http://127.0.0.1:{dashboard}"
        yield Cluster(address, dashboard, gcs, environment, folder / "go")
    finally:
        head.terminate()
        head.wait(60)
        shutil.rmtree(short, ignore_errors=True)


def _wait_for_port(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens at {port}")


@pytest.fixture
def ucn(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Ucn:
    """Run a command against the cluster in this process: exit code, stdout, stderr."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, cluster.environment[name])

    def run(*args: object) -> tuple[int, str, str]:
        code = main([*map(str, args), "--address", cluster.address])
        return code, *capfd.readouterr()

    return run


def motorcycle(out: Path) -> list[str]:
    return ["source=motorcycle", f"out={out}", "workers=0", "max_matches=500"]


def states(cluster: Cluster) -> dict[str, str]:
    """Ray's state of each job, by its name."""
    answer = requests.get(f"{cluster.address}/api/jobs/", headers=cluster.headers, timeout=30)
    return {job["submission_id"]: job["status"] for job in answer.json() if job["metadata"]}


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return line
    raise AssertionError(f"the process ended without {word!r}")


class CuttingProxy:
    """Passes bytes on to a port; cuts all connections when told."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for pair in self._pairs:
            for one in pair:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        self._pairs.clear()

    def _accept(self) -> None:
        while True:
            client, _ = self._server.accept()
            upstream = socket.create_connection(("127.0.0.1", self._target))
            self._pairs.append((client, upstream))
            for pair in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def test_a_job_outlives_its_client_and_the_next_one_comes_back_to_it(
    cluster: Cluster, ucn: Ucn, tmp_path: Path
) -> None:
    cluster.go.unlink(missing_ok=True)
    words = ["submit", "preprocess", *motorcycle(tmp_path / "shards")]
    first = cluster.start(*words, "--address", cluster.address)
    name = read_until(first, "submitted").split()[1].rstrip(":")
    first.kill()
    finish(first)
    assert states(cluster)[name] in ("PENDING", "RUNNING")

    proxy = CuttingProxy(cluster.port)
    second = cluster.start(*words, "--address", f"127.0.0.1:{proxy.port}")
    assert f"{name}: " in read_until(second, "following it again")
    assert second.stdout is not None
    out = ""
    for _ in range(2):
        proxy.cut()
        seen = 0
        while seen < 10:
            line = second.stdout.readline()
            seen += line.startswith("tick ")
            out += line
    cluster.go.touch()
    code, rest, err = finish(second)
    out += rest
    assert code == 0, err
    assert f"{name}: SUCCEEDED" in err
    ticks = [line for line in out.splitlines() if line.startswith("tick ")]
    assert ticks == [f"tick {number + 1}" for number in range(len(ticks))]
    assert '"matches": 500' in out
    assert (tmp_path / "shards" / "manifest.json").exists()

    code, again, err = ucn(*words)
    assert (code, again) == (0, out)
    assert "SUCCEEDED" in err
    assert "--again runs it again" in err
    assert list(states(cluster)) == [name]


def test_the_exit_code_of_a_refused_configuration_comes_back(cluster: Cluster, ucn: Ucn) -> None:
    cluster.go.touch()
    words = ["source=kitti-raw", "root=/nowhere", "out=/nowhere/out", "workers=0"]
    code, out, err = ucn("submit", "preprocess", *words, "--id", "broken")
    assert code == 2
    assert "ucn: /nowhere: no such folder" in out
    assert "broken: FAILED: exit code 2: ucn: /nowhere: no such folder" in err

    code, out, _ = ucn("status", "--json")
    listed = {job["name"]: job for job in json.loads(out)}
    assert (code, listed["broken"]["exit_code"]) == (0, 2)
    assert listed["broken"]["message"].startswith("exit code 2: ucn: /nowhere")


def test_a_stopped_job_is_started_anew_as_the_next_attempt(
    cluster: Cluster, ucn: Ucn, tmp_path: Path
) -> None:
    cluster.go.unlink(missing_ok=True)
    words = ["submit", "preprocess", *motorcycle(tmp_path), "--id", "held"]
    client = cluster.start(*words, "--address", cluster.address)
    read_until(client, "Ctrl-C leaves it running")
    while states(cluster)["held"] != "RUNNING":
        time.sleep(0.1)
    client.send_signal(signal.SIGINT)
    code, _, err = finish(client)
    assert code == 130
    assert "held continues at" in err
    assert "Traceback" not in err
    assert states(cluster)["held"] == "RUNNING"

    watching = cluster.start(*words, "--address", cluster.address)
    read_until(watching, "following it again")
    requests.post(
        f"{cluster.address}/api/jobs/held/stop", headers=cluster.headers, timeout=30
    ).raise_for_status()
    assert finish(watching)[0] == 1

    code, out, err = ucn(*words, "--detach")
    assert (code, out) == (0, "held-2\n")
    assert "held: STOPPED" in err
    code, out, _ = ucn("status", "held")
    assert code == 0
    assert "attempt 1" in out
    cluster.go.touch()


def test_the_code_of_a_checkout_comes_before_the_installed_code(
    cluster: Cluster, ucn: Ucn, tmp_path: Path
) -> None:
    cluster.go.touch()
    checkout = tmp_path / "checkout"
    # The stages are links in src/ucn.
    for name in ("src", "preprocessing", "training", "evaluation", "pipeline", "configs", "models"):
        shutil.copytree(ROOT / name, checkout / name, symlinks=True)
    with (checkout / "preprocessing" / "job.py").open("a") as file:
        file.write("print('from the checkout', flush=True)\n")
    words = [*motorcycle(tmp_path / "shards"), "--working-dir", checkout / "src"]
    code, out, err = ucn("submit", "preprocess", *words, "--id", "shipped")
    assert code == 0, err
    assert "from the checkout" in out.splitlines()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RAY_AUTH_TOKEN", "f00", "refuses the token of RAY_AUTH_TOKEN"),
        ("RAY_AUTH_TOKEN_PATH", "/nowhere", "needs a token, and there is none in /nowhere"),
        ("RAY_AUTH_MODE", "disabled", "needs a token; set RAY_AUTH_MODE=token"),
    ],
)
def test_a_wrong_or_missing_token_is_told_in_one_line(
    cluster: Cluster, name: str, value: str, said: str
) -> None:
    words = ("submit", "preprocess", *motorcycle(Path("/out")), "--address", cluster.address)
    # In a process of its own: Ray keeps the mode that it has read first.
    code, out, err = finish(cluster.start(*words, **{name: value}))
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert said in err
    assert "f00" not in err


def test_the_doctor_joins_and_tells_the_nodes(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, cluster.environment[name])
    dashboard, nodes = check_dashboard(cluster.address, True)
    joined, same_nodes = check_head(f"127.0.0.1:{cluster.gcs}")
    assert {dashboard.status, nodes.status, joined.status} == {"ok"}
    assert nodes.text == same_nodes.text == "1, with 2 CPUs and no GPUs together"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere")
    (refused,) = check_head(f"127.0.0.1:{cluster.gcs}")
    assert (refused.status, "this machine cannot join" in refused.text) == ("problem", True)
