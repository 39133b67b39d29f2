"""What `ucn doctor` says of things that are well and of things that are not."""

import functools
import http.server
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from ucn.errors import UserError
from ucn.pipeline.cluster.client import find_token
from ucn.pipeline.doctor.command import all_checks
from ucn.pipeline.doctor.findings import Check, Finding, as_lines, run_checks
from ucn.pipeline.doctor.machine import (
    cgroup_limits,
    check_disks,
    check_threads,
    check_versions,
    existing_parent,
    judge_disk,
    judge_gpus,
    judge_memory,
    judge_opencv,
    judge_threads,
    judge_version,
)
from ucn.pipeline.doctor.ray_cluster import (
    check_head,
    check_ray,
    judge_nodes,
    judge_token,
)
from ucn.pipeline.doctor.services import (
    check_mlflow,
    check_s3_endpoint,
    judge_sqlite,
)
from ucn.pipeline.doctor.storage import check_location
from ucn.pipeline.locations import Location

GIB = 2**30


def one(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture
def serve() -> Iterator[Callable[[Mapping[str, tuple[int, str]]], str]]:
    """Start servers that give one answer a path, and 404 else."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(answers: Mapping[str, tuple[int, str]]) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = answers.get(self.path.partition("?")[0], (404, "nothing"))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return f"127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_versions_are_those_that_the_package_requires() -> None:
    assert judge_version("torch", "2.13.0+cu130", "==2.13.0").status == "ok"
    assert judge_version("x", "0.0.1", "").status == "ok"
    wrong = judge_version("ray", "2.55.0", "==2.60.0")
    assert (wrong.status, wrong.text) == ("problem", "2.55.0, but ==2.60.0 is required")
    assert judge_version("ray", None, "==2.60.0").status == "problem"


def test_two_packages_of_opencv_are_warned_of() -> None:
    assert judge_opencv({"opencv-contrib-python-headless", "numpy"}, None) == []
    assert one(judge_opencv({"opencv-python", "numpy"}, None)).status == "warning"
    broken = one(judge_opencv(set(), "libGL.so.1: cannot open shared object file"))
    assert (broken.status, "libGL" in broken.text) == ("problem", True)


def test_this_environment_has_the_versions_that_are_required() -> None:
    assert {finding.status for finding in check_versions()} == {"ok"}


@pytest.mark.parametrize(
    ("gpus", "status", "said"),
    [
        (([], None, None), "ok", "none"),
        (([], "13.0", None), "ok", "none"),
        ((["H200"], "13.0", "580.1"), "ok", "H200"),
        (([], None, "580.1"), "warning", "no CUDA"),
        (([], "13.0", "470.1"), "problem", "finds no GPU"),
    ],
)
def test_gpus(gpus: tuple[list[str], str | None, str | None], status: str, said: str) -> None:
    finding = judge_gpus(*gpus)
    assert (finding.status, said in finding.text) == (status, True)
    assert bool(finding.remedy) == (status != "ok")


def test_the_token_must_be_there_for_a_cluster_and_only_ours(tmp_path: Path) -> None:
    def judge(mode: str | None, *, joins: bool = False, cluster: bool = True) -> Finding:
        variables = environment if mode is None else environment | {"RAY_AUTH_MODE": mode}
        return judge_token(variables, tmp_path, is_cluster=cluster, joins=joins)

    environment: dict[str, str] = {}
    assert judge(None, cluster=False).status == "ok"
    assert judge(None).status == "problem"
    assert judge("token", cluster=False).status == "problem"

    file = tmp_path / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("s3cret\n")
    for mode, status in ((0o600, "ok"), (0o640, "warning"), (0o604, "warning")):
        file.chmod(mode)
        finding = judge("token")
        assert finding.status == status
        assert "s3cret" not in finding.text + finding.remedy
    file.write_text("")
    assert find_token({}, tmp_path) == (str(file), "")

    environment["RAY_AUTH_TOKEN"] = "s3cret"
    assert find_token(environment, tmp_path)[0] == "RAY_AUTH_TOKEN"
    assert judge("disabled").status == "warning"
    assert judge("disabled", cluster=False).status == "ok"
    # `ucn submit` sends it all the same, drivers that join do not.
    assert judge(None).status == "ok"
    unsent = judge(None, joins=True)
    assert (unsent.status, unsent.remedy) == ("warning", "export RAY_AUTH_MODE=token")


def test_a_ray_address_that_nothing_answers_at(
    tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    local = check_ray({"RAY_TMPDIR": str(tmp_path)}, tmp_path, None)
    assert [(finding.name, finding.status) for finding in local] == [
        ("ray address", "ok"),
        ("ray token", "ok"),
    ]
    environment = {"RAY_ADDRESS": f"127.0.0.1:{closed_port}", "RAY_AUTH_MODE": "disabled"}
    found = check_ray(environment, tmp_path, f"http://127.0.0.1:{closed_port}")
    assert [finding.status for finding in found] == ["problem", "warning", "problem"]
    assert "no connection" in found[0].text
    assert "no connection" in found[2].text
    assert "not HOST:PORT" in one(check_head("host")).text
    assert "is the address of a dashboard" in one(check_head("http://127.0.0.1:8265")).text
    # A dashboard is on its head's loopback, and is not checked without its address.
    unasked = check_ray(environment, tmp_path, None)
    assert [finding.name for finding in unasked] == ["ray address", "ray token"]


def test_nodes() -> None:
    head = (True, {"memory": 1.0})
    node = (True, {"CPU": 4.0, "GPU": 1.0})
    dead = (False, {"CPU": 8.0})
    assert judge_nodes([head, node, node]).text == "3, with 8 CPUs and 2 GPUs together"
    assert judge_nodes([head, node, dead]).text.endswith("1 gone since the head started")
    assert judge_nodes([head, dead]).status == "problem"


@pytest.mark.parametrize("environment", [{}, {"RAY_ADDRESS": "local"}])
def test_without_a_cluster_a_command_has_a_ray_of_its_own(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Whatever `ray start` has left in Ray's folder."""
    folder = tmp_path / "ray"
    folder.mkdir()
    (folder / "ray_current_cluster").write_text("127.0.0.1:6379")
    found = check_ray(environment | {"RAY_TMPDIR": str(tmp_path)}, tmp_path, None)[0]
    assert (found.name, found.status) == ("ray address", "ok")
    assert "start a local Ray" in found.text


def test_a_database_file(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    assert judge_sqlite(file, None).status == "ok"
    assert not file.exists()
    sqlite3.connect(file).execute("create table t (a)").connection.close()
    assert judge_sqlite(file, None).status == "ok"
    assert judge_sqlite(file, "head:6379").status == "warning"
    file.write_bytes(b"no database at all" * 100)
    assert judge_sqlite(file, None).status == "problem"


def test_tracking_servers(
    serve: Callable[[Mapping[str, tuple[int, str]]], str], closed_port: int
) -> None:
    experiments, ours = "/api/2.0/mlflow/experiments/search", version("mlflow")
    for status, theirs, expected in (
        (200, (200, ours), "ok"),
        (200, (404, ""), "ok"),
        (200, (200, "1.30.0"), "warning"),
        (404, (404, ""), "problem"),
        (401, (401, ""), "problem"),
    ):
        server = serve({experiments: (status, "{}"), "/version": theirs})
        found = one(check_mlflow(f"http://me:secret@{server}/", {}))
        assert found.status == expected
        assert "secret" not in found.text + found.remedy
    assert "MLFLOW_TRACKING_USERNAME" in found.remedy
    gone = one(check_mlflow(f"http://127.0.0.1:{closed_port}", {}))
    assert (gone.status, "no connection" in gone.text) == ("problem", True)
    database = f"postgresql://me:secret@127.0.0.1:{closed_port}/runs"
    gone = one(check_mlflow(database, {}))
    assert (gone.status, "secret" in gone.text) == ("problem", False)
    assert one(check_mlflow("./mlruns", {})).status == "problem"


def test_local_places(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    for option, uri, status in (
        ("root", tmp_path, "problem"),  # empty
        ("root", tmp_path / "none", "problem"),
        ("output", tmp_path / "new" / "deep", "ok"),
    ):
        role = "output" if option == "output" else "input"
        assert one(check_location(Location(option, str(uri), role))).status == status
    assert list(tmp_path.iterdir()) == []
    shards.mkdir()
    (shards / "train-000000.tar").touch()
    assert one(check_location(Location("root", str(shards), "input"))).status == "ok"
    unfinished = one(check_location(Location("data.shards", str(shards), "input")))
    assert (unfinished.status, "finish `ucn preprocess`" in unfinished.remedy) == ("problem", True)
    (shards / "manifest.json").touch()
    assert one(check_location(Location("data.shards", str(shards), "input"))).status == "ok"
    blocked = Check("out", lambda: check_location(Location("out", "/proc/ucn/x", "output")))
    assert one(run_checks([blocked])).status == "problem"


def test_places_in_a_bucket(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket="ucn-doctor")
        place = "s3://ucn-doctor/folder"
        assert one(check_s3_endpoint(environment)).status == "ok"
        assert one(check_location(Location("out", place, "output"))).status == "ok"
        assert "Contents" not in client.list_objects_v2(Bucket="ucn-doctor")
        assert one(check_location(Location("shards", place, "input"))).status == "problem"
        client.put_object(Bucket="ucn-doctor", Key="folder/manifest.json", Body=b"{}")
        assert one(check_location(Location("shards", place, "input"))).status == "ok"
        probe = Check("out", lambda: check_location(Location("out", "s3://none/folder", "output")))
        assert "no such bucket" in one(run_checks([probe])).text
    finally:
        moto.stop()
    gone = one(check_s3_endpoint({"AWS_ENDPOINT_URL": f"http://a:secret@127.0.0.1:{closed_port}"}))
    assert (gone.status, "secret" in gone.text) == ("problem", False)
    assert one(check_s3_endpoint({})).status == "ok"


def test_disks(tmp_path: Path) -> None:
    judge = functools.partial(judge_disk, folder=tmp_path, total=100 * GIB, cache_gib=20)
    assert judge({"outputs", "ray", "cache"}, free=30 * GIB).status == "ok"
    assert judge({"outputs"}, free=15 * GIB).status == "ok"
    assert "data.cache_gib" in judge({"cache"}, free=15 * GIB).remedy
    assert judge({"outputs"}, free=4 * GIB).status == "warning"
    assert "95 %" in judge({"ray"}, free=4 * GIB).text
    assert judge({"outputs"}, free=GIB // 2).status == "problem"

    assert existing_parent(tmp_path / "a" / "b") == tmp_path
    found = check_disks([("outputs", tmp_path), ("outputs", tmp_path / "x")], 1)
    assert one(found).text.endswith("(outputs)")


def test_memory() -> None:
    for total, available, shared, statuses in (
        (16, 8, None, ["ok"]),
        (16, 1, 8, ["warning"]),
        (2, 2, 8, ["warning"]),
        (16, 8, 1, ["ok", "warning"]),
    ):
        found = judge_memory(total * GIB, available * GIB, shared and shared * GIB)
        assert [finding.status for finding in found] == statuses
    assert "--shm-size=5g" in found[1].remedy


@pytest.mark.parametrize(
    ("cores", "limit", "wanted", "status", "remedy"),
    [
        (8, None, None, "ok", ""),
        (8, None, "8", "ok", ""),
        (8, 2.0, "2", "ok", ""),
        (8, None, "4,2", "ok", ""),
        (8, None, "9", "warning", "set OMP_NUM_THREADS=8"),
        (8, 1.5, None, "warning", "set OMP_NUM_THREADS=2"),
        (8, 1.5, "8", "warning", "set OMP_NUM_THREADS=2"),
        (8, None, "all", "problem", "set OMP_NUM_THREADS=8"),
        (8, None, "0", "problem", "set OMP_NUM_THREADS=8"),
    ],
)
def test_threads(
    cores: int, limit: float | None, wanted: str | None, status: str, remedy: str
) -> None:
    finding = judge_threads(cores, limit, wanted)
    assert (finding.status, finding.remedy) == (status, remedy)


def test_threads_that_wait() -> None:
    for policy, number in ((None, 1), ("passive", 1), ("Active", 2)):
        environment = {"OMP_NUM_THREADS": "1"} | ({"OMP_WAIT_POLICY": policy} if policy else {})
        found = check_threads(environment)
        assert len(found) == number
        assert found[-1].status == ("ok" if number == 1 else "warning")


def test_the_least_limit_of_the_control_groups_holds(tmp_path: Path) -> None:
    own = tmp_path / "own"
    root = tmp_path / "cgroup"
    (root / "a" / "b").mkdir(parents=True)
    own.write_text("0::/a/b\n")
    assert cgroup_limits(root, own) == (None, None)
    assert cgroup_limits(root, tmp_path / "none") == (None, None)
    (root / "a" / "cpu.max").write_text("150000 100000\n")
    (root / "a" / "b" / "cpu.max").write_text("max 100000\n")
    (root / "a" / "memory.max").write_text("max\n")
    (root / "a" / "b" / "memory.max").write_text("4096\n")
    assert cgroup_limits(root, own) == (1.5, 4096)


def test_a_probe_that_hangs_or_breaks_holds_up_none_of_the_others() -> None:
    def hang() -> list[Finding]:
        time.sleep(60)
        return []

    def break_down() -> list[Finding]:
        raise OSError("http://me:secret@host")

    def refuse() -> list[Finding]:
        raise UserError("s3://me:secret@b/x: no;\n go away")

    well = Finding("d", "ok", "see http://me:secret@host/x?y=secret")
    checks = [Check("a", hang, "wait"), Check("b", break_down), Check("c", refuse)]
    found = run_checks([*checks, Check("d", lambda: [well])], timeout_s=1)
    assert [(finding.name, finding.status) for finding in found] == [
        ("a", "problem"),
        ("b", "problem"),
        ("c", "problem"),
        ("d", "ok"),
    ]
    assert found[0].remedy == "wait"
    assert found[2].text == "s3://b/x: no; go away"
    assert "secret" not in as_lines(found)
    assert "3 problems" in as_lines(found)


def test_a_configuration_is_looked_at_as_the_command_reads_it(tmp_path: Path) -> None:
    def names(**values: object) -> list[str]:
        return [check.name for check in all_checks(values, {}, tmp_path, None)]

    assert "current folder" in names()
    assert {"root", "out"} <= set(names(source="kitti-raw", root="/a", out="/b"))
    assert "mlflow" not in names(source="kitti-raw", root="/a", out="/b")
    assert {"data.shards", "output", "s3 endpoint"} <= set(names(data={"shards": "s3://b/x"}))
    split = {"source": "kitti-raw", "root": "/a"}
    run = names(out="/b", shards={"train": split, "test": split})
    assert {"out", "shards.train.root", "mlflow"} <= set(run)
    # What lies below `out`, and what a stage makes for the next, is not looked at by itself.
    assert not {"shards.train.out", "train.output", "evaluate.model", "s3 endpoint"} & set(run)
    wrong = all_checks({"source": "kitti-raw", "rot": "/a"}, {}, tmp_path, None)
    assert one(wrong[0].run()).status == "problem"


def test_the_command_on_a_laptop_and_where_something_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "ok.yaml").write_text(f"source: motorcycle\nout: {tmp_path}/shards\n")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY", "AWS_END"))
    } | {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(tmp_path)}

    def doctor(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "ucn.pipeline.main", "doctor", *words],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        return done.returncode, done.stdout, done.stderr

    code, out, err = doctor("--config", "ok.yaml", "--json")
    found = {finding["name"]: finding for finding in json.loads(out)}
    assert {"torch", "ray", "gpu", "ray address", "out", "disk", "memory", "threads"} <= set(found)
    problems = [name for name, finding in found.items() if finding["status"] == "problem"]
    # How full the machine's disks are is not for this test to say.
    assert set(problems) <= {"disk"}
    assert (code, err) == (2 if problems else 0, "")

    code, out, err = doctor(
        "tracking.uri=http://me:s3cret@127.0.0.1:9/?token=s3cret", "data.shards=/no"
    )
    assert (code, err) == (2, "")
    lines = out.splitlines()
    assert any(line.startswith("problem  mlflow") for line in lines)
    assert any(line.startswith("problem  data.shards") for line in lines)
    assert "s3cret" not in out
