"""Submitting jobs to a dashboard that fails: what is refused, retried, found again, given up."""

import http.server
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from ucn.errors import UserError
from ucn.pipeline.cluster.client import JobsClient, dashboard_address
from ucn.pipeline.cluster.job import configuration_of, plan_job
from ucn.pipeline.cluster.submit import follow, submit
from ucn.pipeline.main import main

JOB = plan_job("preprocess", {"source": "motorcycle", "out": "/shards"})


class Dashboard:
    """A server with the endpoints of Ray's Jobs API that the client uses."""

    def __init__(self) -> None:
        self.version: Any = {"ray_version": ray.__version__}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.log = ""
        self.log_statuses: list[int] = []
        """Statuses of the next answers to a request for the log, instead of 200."""
        self.authorization: str | None = None
        self.refusal: int | None = None
        self.packages: list[str] = []
        self.posts = 0
        self.request: dict[str, Any] = {}
        self.on_post: Callable[[int], int | None] = lambda number: 200
        """The status of the answer to the n-th submission; None cuts the connection."""
        self.on_look: Callable[[dict[str, Any]], None] = lambda job: None
        """Called before a job is shown."""
        dashboard = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                dashboard.get(self)

            def do_POST(self) -> None:
                dashboard.post(self)

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                dashboard.packages.append(self.path)
                answer(self, 200, "")

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(self, request: dict[str, Any], **changes: Any) -> None:
        self.jobs[request["submission_id"]] = {
            "type": "SUBMISSION",
            "status": "RUNNING",
            "entrypoint": request["entrypoint"],
            "metadata": request["metadata"],
            "submission_id": request["submission_id"],
            "start_time": 1_700_000_000_000 + len(self.jobs),
        } | changes

    def get(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.authorization = handler.headers["Authorization"]
        parts = handler.path.strip("/").split("/")
        job = self.jobs.get(parts[2]) if len(parts) > 2 else None
        if self.refusal is not None:
            answer(handler, self.refusal, "no")
        elif parts == ["api", "version"]:
            answer(handler, 200, self.version)
        elif parts == ["api", "jobs"]:
            answer(handler, 200, list(self.jobs.values()))
        elif job is None:
            answer(handler, 404, "no such thing")
        elif parts[-1] == "logs":
            status = self.log_statuses.pop() if self.log_statuses else 200
            answer(handler, status, {"logs": self.log})
        else:
            self.on_look(job)
            answer(handler, 200, job)

    def post(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.posts += 1
        self.request = request
        status = self.on_post(self.posts)
        if status in (200, None):
            self.add(request)
        if status is None:
            handler.connection.close()
        else:
            name = request["submission_id"]
            text = {"submission_id": name, "job_id": name} if status == 200 else "No agent"
            answer(handler, status, text)


def answer(handler: http.server.BaseHTTPRequestHandler, status: int, value: Any) -> None:
    handler.send_response(status)
    handler.end_headers()
    handler.wfile.write((value if isinstance(value, str) else json.dumps(value)).encode())


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    # The address that is given counts, whatever the environment says.
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    one = Dashboard()
    yield one
    one.stop()


def ignore(line: str) -> None:
    pass


def test_a_fault_can_be_asked_for_its_traceback(dashboard: Dashboard) -> None:
    client = JobsClient(dashboard.address)
    submit(client, JOB, ignore)
    assert not dashboard.request.get("runtime_env")
    submit(
        client, plan_job("preprocess", {"source": "motorcycle", "out": "/x"}), ignore, debug=True
    )
    assert dashboard.request["runtime_env"] == {"env_vars": {"UCN_DEBUG": "1"}}


def test_the_id_follows_from_stage_and_configuration() -> None:
    values = {"source": "motorcycle", "out": "/shards"}
    again = plan_job("preprocess", dict(reversed(values.items())))
    assert (again.id, again.digest) == (JOB.id, JOB.digest)
    assert plan_job("preprocess", values | {"seed": 1}).id != JOB.id
    assert plan_job("preprocess", values, "mine").name(2) == "mine-2"
    with pytest.raises(UserError, match="letters, digits"):
        plan_job("preprocess", values, "../mine")


def test_the_order_of_the_splits_is_kept_and_makes_another_job() -> None:
    splits = {name: {"source": "motorcycle"} for name in ("train", "z", "a")}
    first = plan_job("run", {"out": "/out", "shards": splits})
    text = first.entrypoint
    assert text.index("train: {") < text.index("z: {") < text.index("a: {")
    other = plan_job("run", {"out": "/out", "shards": dict(sorted(splits.items()))})
    assert other.id != first.id


def test_the_configuration_arrives_as_it_was_read(tmp_path: Path) -> None:
    values = {
        "data": {"shards": ["/a b", "/it's $HOME `x` \\n"]},
        "optimiser": {"learning_rate": 1e-5},
        "tracking": {"enabled": False, "experiment": "ü\nEND"},
        "output": "/out",
    }
    job = plan_job("train", values)
    ucn = tmp_path / "ucn"
    ucn.write_text('#!/bin/sh\necho "$@" $TQDM_MININTERVAL\ncat "$3"\nexit 2\n')
    ucn.chmod(0o755)
    done = subprocess.run(
        job.entrypoint,
        shell=True,
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LANG": "C.UTF-8"},
    )
    words, _, text = done.stdout.partition("\n")
    assert words == "train --config /dev/stdin 10"
    assert yaml.safe_load(text) == values
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("stage", "values", "said"),
    [
        ("preprocess", {"out": "/a"}, "source: missing"),
        ("preprocess", {"source": "motorcycle", "out": "a"}, "out: a is a relative path"),
        ("preprocess", {"source": "kitti-raw", "root": "~/a", "out": "/a"}, "root: ~/a is a rel"),
        ("train", {"data": {"shards": "/a"}}, "output: runs/train is a relative path"),
        ("train", {"output": "/a"}, "tracking.uri: sqlite:///mlflow.db is a file"),
        (
            "train",
            {"output": "/a", "tracking": {"uri": "http://me:pw@h"}},
            "tracking.uri: http://h ",
        ),
        ("train", {"stepz": 3}, "stepz: no such option"),
        ("evaluate", {"shards": ["/a"], "model": "x=b"}, "model: b is a relative path"),
        ("run", {"out": "/a"}, "no split train"),
    ],
)
def test_what_would_not_hold_on_a_cluster_is_refused(
    stage: Any, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as error:
        plan_job(stage, values)
    assert said in str(error.value)
    assert "pw" not in str(error.value)


def test_addresses_in_an_object_store_hold_everywhere() -> None:
    plan_job("preprocess", {"source": "kitti-raw", "root": "/a", "out": "s3://b/shards"})
    train = {"data": {"shards": ["s3://b/x", "/y"]}, "output": "/a"}
    plan_job("train", train | {"tracking": {"uri": "http://mlflow:5000"}})
    plan_job("train", train | {"tracking": {"enabled": False}})


def test_a_job_tracks_where_this_machine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    train = {"data": {"shards": ["/y"]}, "output": "/a"}
    planned = yaml.safe_load(configuration_of(plan_job("train", train).entrypoint))
    assert planned["tracking"] == {"uri": "http://team:5000", "experiment": "ours"}
    given = plan_job("train", train | {"tracking": {"uri": "http://mlflow:5000"}})
    assert yaml.safe_load(configuration_of(given.entrypoint))["tracking"] == {
        "uri": "http://mlflow:5000", "experiment": "ours",
    }  # fmt: skip
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pw@team:5000")
    with pytest.raises(UserError, match=r"tracking\.uri: http://team:5000 contains credentials"):
        plan_job("train", train)


@pytest.mark.parametrize(
    ("given", "environment", "address"),
    [
        (None, {}, "http://127.0.0.1:8265"),
        (None, {"RAY_ADDRESS": "auto"}, "http://127.0.0.1:8265"),
        (None, {"RAY_ADDRESS": "head:6379"}, "http://head:8265"),
        (None, {"RAY_ADDRESS": "ray://head:10001"}, "http://head:8265"),
        (None, {"RAY_ADDRESS": "http://head:80"}, "http://head:80"),
        (None, {"RAY_API_SERVER_ADDRESS": "http://a:1", "RAY_ADDRESS": "b:2"}, "http://a:1"),
        ("head", {"RAY_ADDRESS": "b:2"}, "http://head:8265"),
        ("head:80/", {}, "http://head:80"),
        ("https://head/ray/", {}, "https://head/ray"),
        ("[::1]:80", {}, "http://[::1]:80"),
    ],
)
def test_addresses(given: str | None, environment: dict[str, str], address: str) -> None:
    assert dashboard_address(given, environment) == address


@pytest.mark.parametrize(
    "given", ["ftp://h", "http://me:pw@h", "me:pw@h:80", "h:port", "http://", "a b"]
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(UserError) as error:
        dashboard_address(given, {})
    assert "pw" not in str(error.value)


def test_what_answers_must_be_a_dashboard_of_this_version(dashboard: Dashboard) -> None:
    dashboard.version = {"ray_version": "2.9.0"}
    with pytest.raises(UserError, match=r"the cluster has Ray 2\.9\.0, this"):
        JobsClient(dashboard.address)
    for page in ("<html>", {"version": 3}, [1]):
        dashboard.version = page
        with pytest.raises(UserError, match="not a Ray dashboard"):
            JobsClient(dashboard.address)


def test_the_command_tells_in_one_line_that_nothing_answers(
    dashboard: Dashboard, capfd: pytest.CaptureFixture[str]
) -> None:
    dashboard.stop()
    words = ["submit", "preprocess", "--address", dashboard.address, "source=motorcycle", "out=/a"]
    assert main(words) == 2
    captured = capfd.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "no connection" in captured.err


def test_a_submission_is_repeated_until_there_is_an_agent(dashboard: Dashboard) -> None:
    dashboard.on_post = lambda number: 500 if number < 3 else 200
    assert submit(JobsClient(dashboard.address), JOB, ignore) == (JOB.id, None)
    assert dashboard.posts == 3
    with pytest.raises(UserError, match="the dashboard answers 500"):
        dashboard.jobs.clear()
        dashboard.on_post = lambda number: 500
        submit(JobsClient(dashboard.address), JOB, ignore, timeout_s=0)


def test_a_lost_answer_makes_no_second_job(dashboard: Dashboard) -> None:
    dashboard.on_post = lambda number: None
    name, _ = submit(JobsClient(dashboard.address), JOB, ignore)
    assert name == JOB.id
    assert list(dashboard.jobs) == [JOB.id]
    assert dashboard.posts == 1


def test_a_job_that_another_client_submits_meanwhile_is_come_back_to(dashboard: Dashboard) -> None:
    def refuse(number: int) -> int:
        dashboard.add(
            {"submission_id": JOB.id, "entrypoint": "", "metadata": JOB.metadata(1)},
            status="PENDING",
        )
        return 500

    dashboard.on_post = refuse
    name, earlier = submit(JobsClient(dashboard.address), JOB, ignore)
    assert earlier is not None
    assert (name, earlier.state) == (JOB.id, "PENDING")


@pytest.mark.parametrize(
    ("status", "again", "name"),
    [
        ("PENDING", False, JOB.id),
        ("RUNNING", True, JOB.id),
        ("SUCCEEDED", False, JOB.id),
        ("SUCCEEDED", True, f"{JOB.id}-3"),
        ("FAILED", False, f"{JOB.id}-3"),
        ("STOPPED", False, f"{JOB.id}-3"),
    ],
)
def test_the_latest_attempt_decides(
    dashboard: Dashboard, status: str, again: bool, name: str
) -> None:
    for attempt, state in ((2, status), (1, "FAILED")):
        request = {"entrypoint": "", "metadata": JOB.metadata(attempt)}
        dashboard.add(request | {"submission_id": JOB.name(attempt)}, status=state)
    expected = name if name != JOB.id else f"{JOB.id}-2"
    assert submit(JobsClient(dashboard.address), JOB, ignore, again=again)[0] == expected


def test_an_id_of_another_configuration_is_refused(dashboard: Dashboard) -> None:
    dashboard.add({"submission_id": JOB.id, "entrypoint": "", "metadata": JOB.metadata(1)})
    other = plan_job("preprocess", {"source": "motorcycle", "out": "/other"}, JOB.id)
    with pytest.raises(UserError, match="another configuration"):
        submit(JobsClient(dashboard.address), other, ignore)
    assert dashboard.posts == 0


def test_an_id_that_another_configuration_takes_meanwhile_is_refused(dashboard: Dashboard) -> None:
    other = plan_job("preprocess", {"source": "motorcycle", "out": "/other"}, JOB.id)

    def refuse(number: int) -> int:
        request = {"submission_id": JOB.id, "entrypoint": "", "metadata": other.metadata(1)}
        dashboard.add(request)
        return 500

    dashboard.on_post = refuse
    with pytest.raises(UserError, match="another configuration"):
        submit(JobsClient(dashboard.address), JOB, ignore)


def test_a_job_of_another_program_is_left_alone(dashboard: Dashboard) -> None:
    dashboard.add({"submission_id": JOB.id, "entrypoint": "true", "metadata": {}})
    dashboard.on_post = lambda number: 500
    with pytest.raises(UserError, match="another program has a job with this ID"):
        submit(JobsClient(dashboard.address), JOB, ignore)


def test_the_log_is_shown_once_as_it_grows(dashboard: Dashboard) -> None:
    client = JobsClient(dashboard.address)
    submit(client, JOB, ignore)
    dashboard.log = "1\n"
    shown: list[str] = []

    def grow(job: dict[str, Any]) -> None:
        if dashboard.log.count("\n") < 4:
            dashboard.log += f"{dashboard.log.count(chr(10)) + 1}\n"
        else:
            job |= {"status": "FAILED", "driver_exit_code": 2, "message": "failed:\nucn: no"}

    dashboard.on_look = grow
    state = follow(client, JOB.id, shown.append, ignore, poll_s=0.01)
    assert (state.exit_code, state.message) == (2, "exit code 2: ucn: no")
    assert "".join(shown) == "1\n2\n3\n4\n"
    assert len(shown) > 1


@pytest.mark.parametrize("status", [500, 503])
def test_how_a_job_ended_is_shown_without_its_log(dashboard: Dashboard, status: int) -> None:
    """500: the node that kept the log is gone. 503: a proxy fails once, and the log is whole."""
    client = JobsClient(dashboard.address)
    submit(client, JOB, ignore)
    dashboard.jobs[JOB.id]["status"] = "SUCCEEDED"
    dashboard.log = "all of it"
    dashboard.log_statuses = [status]
    shown: list[str] = []
    told: list[str] = []
    assert follow(client, JOB.id, shown.append, told.append, poll_s=0.01).exit_code == 0
    assert (shown, len(told)) == (([], 1) if status == 500 else (["all of it"], 2))


def test_a_cluster_that_stays_away_is_given_up(dashboard: Dashboard) -> None:
    client = JobsClient(dashboard.address)
    submit(client, JOB, ignore)
    dashboard.stop()
    told: list[str] = []
    with pytest.raises(UserError, match="the same command follows it again"):
        follow(client, JOB.id, ignore, told.append, timeout_s=0.05, poll_s=0.01)
    assert told == [f"{client.address}: connection lost; reconnecting"]


def test_a_cluster_that_was_started_anew_knows_no_job(dashboard: Dashboard) -> None:
    client = JobsClient(dashboard.address)
    submit(client, JOB, ignore)
    dashboard.on_look = lambda job: dashboard.jobs.clear()
    with pytest.raises(UserError, match="no longer knows this job"):
        follow(client, JOB.id, ignore, ignore, poll_s=0.01)


def test_a_token_is_sent_but_not_printed(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "s3cret")
    JobsClient(dashboard.address)
    assert dashboard.authorization is None
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    client = JobsClient(dashboard.address)
    assert dashboard.authorization == "Bearer s3cret"
    dashboard.refusal = 403
    with pytest.raises(UserError, match="refuses the token of RAY_AUTH_TOKEN") as error:
        client.jobs()
    assert "s3cret" not in str(error.value)


def test_a_local_folder_is_uploaded(
    dashboard: Dashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    (tmp_path / "code.py").write_text("pass")
    submit(JobsClient(dashboard.address), JOB, ignore, working_dir=tmp_path, debug=True)
    assert dashboard.packages[0].startswith("/api/packages/gcs/_ray_pkg_")
    runtime_env = dashboard.request["runtime_env"]
    assert runtime_env["working_dir"].startswith("gcs://_ray_pkg_")
    assert runtime_env["env_vars"] == {"UCN_DEBUG": "1"}
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:1"
