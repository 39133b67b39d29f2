"""The log of MLflow runs: what it holds, its delivery, and what outages and kills do to it."""

import json
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from werkzeug.serving import make_server

from ucn.errors import UserError
from ucn.images.draw import write_picture
from ucn.storage.addresses import sqlite_path, sqlite_uri
from ucn.storage.lock import file_lock
from ucn.training.config import NetworkConfig, TrackingConfig, TrainConfig
from ucn.training.model import WEIGHTS, load_model, model_digests, save_model
from ucn.training.networks import build_network
from ucn.training.tracking import (
    TRACKING,
    DatasetLink,
    ModelLink,
    RunLog,
    Tracker,
    delivery,
    experiment_page,
    sync,
    system_metrics,
)
from ucn.training.tracking.log import LOG, flatten, read_log

LINK = DatasetLink("training", "0123456789abcdef" * 4, "/data/shards", "training")
ABOUT: dict[str, Any] = {"params": {"a": 1}, "tags": {"stage": "t"}, "datasets": [LINK]}


def own_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("ucn.training.tracking")]


def entries(output: Path, kind: str) -> list[dict[str, Any]]:
    return [line.entry for line in read_log(output / TRACKING) if line.entry.get("kind") == kind]


def runs(config: TrackingConfig) -> list[Any]:
    """All runs of the experiment, the oldest first."""
    client = MlflowClient(tracking_uri=config.uri)
    experiment = client.get_experiment_by_name(config.experiment)
    found = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    return [client.get_run(run.info.run_id) for run in found]


class Server:
    """MLflow's own server on loopback, over SQLite.

    Attributes:
        is_up: whether it answers; otherwise it drops every connection.
        is_open: whether it grants access; otherwise it answers 401.
        lose: from the path of a request to whether its answer is lost once it is done.
        asked: paths of the requests.
    """

    def __init__(self, folder: Path) -> None:
        from mlflow.server import app, handlers

        self.is_up = self.is_open = True
        self.lose: Callable[[str], bool] = lambda path: False
        self.asked: list[str] = []
        self._app = app
        handlers.initialize_backend_stores(f"sqlite:///{folder / 'server.db'}")
        # As it runs in this process, its clients would take its database for theirs.
        mlflow.set_registry_uri("")
        self.server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{self.server.server_port}"
        self.config = TrackingConfig(uri=uri, experiment="outages")

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"].rpartition("/2.0/")[2]
        self.asked.append(path)
        if not self.is_open:
            start_response("401 UNAUTHORIZED", [])
            return []
        if self.is_up:
            if not self.lose(path):
                return self._app(environ, start_response)
            list(self._app(environ, lambda *_: None))
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError


@pytest.fixture(scope="module")
def started_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{folder / 'server.db'}")
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "mlflow-artifacts:/")
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(folder / "artifacts"))
        patch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
        # It sets these, too.
        patch.setenv("MLFLOW_TRACKING_URI", "")
        patch.setenv("MLFLOW_REGISTRY_URI", "")
        started = Server(folder)
        yield started
        started.server.shutdown()


@pytest.fixture
def server(started_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server, without waits between attempts."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(delivery, "LONGEST_WAIT_S", 0.1)
    monkeypatch.setattr(delivery, "POLL_S", 0.02)
    yield started_server
    started_server.lose = lambda path: False
    started_server.is_up = started_server.is_open = True


@pytest.fixture
def config(server: Server, tmp_path: Path) -> TrackingConfig:
    """An experiment of its own on the running server."""
    return server.config.model_copy(update={"experiment": tmp_path.name})


def history(config: TrackingConfig, run_id: str | None, metric: str) -> list[tuple[int, float]]:
    client = MlflowClient(tracking_uri=config.uri)
    return sorted((p.step, p.value) for p in client.get_metric_history(run_id, metric))


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def until_stopped() -> None:
    """Wait for a last request that the end of a tracker did not wait for."""
    until(lambda: "tracking" not in [thread.name for thread in threading.enumerate()])


def test_a_run_holds_params_metrics_dataset_and_artifacts(tmp_path: Path) -> None:
    config = TrackingConfig(uri=f"sqlite:///{tmp_path / 'db' / 'mlflow.db'}", experiment="tests")
    with Tracker(tmp_path, config) as tracker:
        run = tracker.start("one", "k", params={"a": {"b": 1}, "c": "x"}, tags={}, datasets=[LINK])
        (tmp_path / "note.txt").write_text("hello")
        run.file("table.json").parent.mkdir(parents=True)
        run.file("table.json").write_text('{"columns": ["k"], "data": [[1], [2]]}')
        run.log_metrics({"loss": 0.5, "pck/3": 40}, 0)
        run.log_metrics({"loss": 0.25}, 1)
        run.log_artifact(tmp_path / "note.txt", "notes")
        run.log_artifact(run.file("table.json"), table=True)
        run.set_status("FINISHED")
    (found,) = runs(config)
    assert found.info.run_id == tracker.run_id(run)
    assert (found.info.run_name, found.info.status) == ("one", "FINISHED")
    assert found.info.start_time == entries(tmp_path, "run")[0]["time"]
    assert found.info.end_time == entries(tmp_path, "status")[0]["time"]
    assert found.data.params == {"a.b": "1", "c": "x"}
    assert found.data.metrics == {"loss": 0.25, "pck/3": 40}
    assert found.data.tags["manifest_sha256.training"] == LINK.digest
    (entry,) = found.inputs.dataset_inputs
    assert LINK.digest.startswith(entry.dataset.digest)
    assert json.loads(entry.dataset.profile)["manifest_sha256"] == LINK.digest
    assert json.loads(entry.dataset.source)["uri"] == "/data/shards"
    artifacts = tmp_path / "db" / "mlartifacts" / found.info.run_id / "artifacts"
    assert (artifacts / "notes" / "note.txt").read_text() == "hello"
    client = MlflowClient(tracking_uri=config.uri)
    table = json.loads((artifacts / "table.json").read_text())
    assert table == {"columns": ["k"], "data": [[1], [2]]}
    shown = json.loads(found.data.tags["mlflow.loggedArtifacts"])
    assert shown == [{"path": "table.json", "type": "table"}]
    experiment = client.get_experiment(found.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment_page(tmp_path) == (
        f"http://127.0.0.1:5000/#/experiments/{found.info.experiment_id}"
        "?workflowType=machine_learning"
    )


def test_a_resumed_run_goes_on_without_repeated_steps(
    config: TrackingConfig, tmp_path: Path
) -> None:
    for first in (0, 2):
        with Tracker(tmp_path, config) as tracker:
            run = tracker.start("one", "k", **ABOUT)
            for step in range(first, first + 4):
                run.log_metrics({"loss": float(step + first)}, step)
                if step % 2:
                    run.log_metrics({"pck": float(step)}, step)
    (found,) = runs(config)
    assert found.info.status == "RUNNING"
    # The values of steps 2 and 3 are those of the first time.
    expected = [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 6.0), (5, 7.0)]
    assert history(config, found.info.run_id, "loss") == expected
    assert history(config, found.info.run_id, "pck") == [(1, 1.0), (3, 3.0), (5, 5.0)]
    with Tracker(tmp_path, config) as tracker:
        tracker.start("two", "another key", **ABOUT).set_status("FINISHED")
    assert [run.info.run_name for run in runs(config)] == ["one", "two"]


def test_lines_of_another_process_are_delivered(config: TrackingConfig, tmp_path: Path) -> None:
    with Tracker(tmp_path, config) as tracker:
        run = tracker.start("one", "k", **ABOUT)
        other = RunLog(tmp_path / TRACKING, run.id)
        other.log_metrics({"loss": 0.5}, 0)
        until(lambda: tracker.run_id(run))
        until(lambda: history(config, tracker.run_id(run), "loss") == [(0, 0.5)])


def test_a_run_that_mlflow_missed_is_delivered_later_once(
    server: Server,
    config: TrackingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE_S", 0.3)
    server.is_up = False
    start = time.monotonic()
    with Tracker(tmp_path, config) as tracker:
        run = tracker.start("one", "k", **ABOUT)
        for step in range(5):
            run.log_metrics({"loss": float(step)}, step)
        write_picture(run.file("a.png"), np.zeros((9, 9, 3), np.uint8))
        run.log_artifact(run.file("a.png"), "pictures")
        part = tracker.start("part", "p", params={}, tags={"set": "x"}, parent=run)
        part.log_metrics({"pck/3": 5.0})
        part.set_status("FINISHED")
        run.set_status("FINISHED")
    assert time.monotonic() - start < 5
    assert tracker.run_id(run) is None
    away, waiting = own_messages(caplog)
    assert "does not answer" in away
    assert f"11 lines of {tmp_path / TRACKING / LOG}" in waiting
    assert "ucn sync" in waiting
    until_stopped()
    with pytest.raises(UserError, match=r"does not answer.*11 lines"):
        sync(tmp_path, config.uri)
    server.is_up = True
    time.sleep(0.1)
    assert sync(tmp_path, config.uri) == Counter(runs=2, metrics=6, artifacts=1)
    found, below = runs(config)
    assert (found.info.run_name, found.info.status) == ("one", "FINISHED")
    assert found.data.tags["stage"] == "t"
    assert below.data.tags["mlflow.parentRunId"] == found.info.run_id
    assert below.data.tags["set"] == "x"
    logged = entries(tmp_path, "metrics")[:5]
    points = MlflowClient(tracking_uri=config.uri).get_metric_history(found.info.run_id, "loss")
    assert [(p.step, p.timestamp) for p in points] == [(e["step"], e["time"]) for e in logged]
    ends = [entry["time"] for entry in entries(tmp_path, "status")]
    assert [below.info.end_time, found.info.end_time] == ends
    assert found.info.start_time == entries(tmp_path, "run")[0]["time"]
    assert sync(tmp_path, config.uri) == Counter()
    # Had it forgotten what it has delivered, nothing would be there twice.
    (tmp_path / TRACKING / delivery.DELIVERED).unlink()
    assert sync(tmp_path, config.uri)["metrics"] == 6
    assert len(runs(config)) == 2
    assert history(config, found.info.run_id, "loss") == [(step, float(step)) for step in range(5)]


def test_all_metrics_arrive_once_in_spite_of_an_outage(
    server: Server, config: TrackingConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ucn.training.tracking")
    picture = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    with Tracker(tmp_path, config) as tracker:
        run = tracker.start("one", "k", **ABOUT)
        server.asked.clear()
        for step in range(400):
            run.log_metrics({"loss": step / 2, "rate": float(step)}, step)
            if step == 100:
                until(lambda: "mlflow/runs/log-batch" in server.asked)
                server.is_up = False
            if step == 200:
                write_picture(run.file("step-000200/pair.png"), picture)
                run.log_artifact(run.file("step-000200/pair.png"), "step-000200")
                until(lambda: own_messages(caplog))
                server.is_up = True
    run_id = tracker.run_id(run)
    assert history(config, run_id, "loss") == [(step, step / 2) for step in range(400)]
    assert len(history(config, run_id, "rate")) == 400
    client = MlflowClient(tracking_uri=config.uri)
    path = client.download_artifacts(str(run_id), "step-000200/pair.png")
    assert np.array_equal(cv2.imread(path)[..., ::-1], picture)
    away, back = own_messages(caplog)
    assert "does not answer" in away
    assert "answers again" in back


@pytest.mark.parametrize("path", ["log-batch", "create", "log-inputs"])
def test_what_was_done_though_its_answer_was_lost_is_there_once(
    server: Server, config: TrackingConfig, tmp_path: Path, path: str
) -> None:
    losses = iter([True, True, False, True])
    server.lose = lambda asked: asked == f"mlflow/runs/{path}" and next(losses, False)
    with Tracker(tmp_path, config) as tracker:
        run = tracker.start("one", "k", **ABOUT)
        for step in range(50):
            run.log_metrics({"loss": float(step), "not a number": float("nan")}, step)
            time.sleep(0.002)
    (found,) = runs(config)
    assert history(config, found.info.run_id, "loss") == [(step, step) for step in range(50)]
    assert len(history(config, found.info.run_id, "not a number")) == 50
    assert len(found.inputs.dataset_inputs) == 1


def test_a_killed_process_leaves_a_part_of_a_line(config: TrackingConfig, tmp_path: Path) -> None:
    with Tracker(tmp_path, config) as tracker:
        run = tracker.start("one", "k", **ABOUT)
        run.log_metrics({"loss": 0.5}, 0)
        with (tmp_path / TRACKING / LOG).open("ab") as file:
            file.write(b'{"kind": "metrics", "run": "')
        time.sleep(0.1)
        resumed = RunLog(tmp_path / TRACKING, run.id)
        resumed.log_metrics({"loss": 9.0}, 0)
        resumed.log_metrics({"loss": 0.25}, 1)
    assert history(config, tracker.run_id(run), "loss") == [(0, 0.5), (1, 0.25)]


def test_one_process_delivers_a_log_at_a_time(config: TrackingConfig, tmp_path: Path) -> None:
    with file_lock(tmp_path / TRACKING):
        tracker = Tracker(tmp_path, config)
        run = tracker.start("one", "k", **ABOUT)
        with pytest.raises(UserError, match="another run writes here"):
            sync(tmp_path, config.uri)
        assert tracker.run_id(run) is None
    with tracker:
        until(lambda: tracker.run_id(run))


def test_the_end_does_not_sit_out_a_long_wait(
    server: Server,
    config: TrackingConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 60.0)
    monkeypatch.setattr(delivery, "LONGEST_WAIT_S", 60.0)
    server.is_up = False
    with Tracker(tmp_path, config) as tracker:
        run = tracker.start("one", "k", **ABOUT)
        run.log_metrics({"loss": 1.0}, 0)
        until(lambda: own_messages(caplog))
        server.is_up = True
    assert history(config, tracker.run_id(run), "loss") == [(0, 1.0)]


def test_what_is_refused_is_left_out_and_nothing_else(
    config: TrackingConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "note.txt").write_text("as logged")
    with Tracker(tmp_path, config) as tracker:
        run = tracker.start("one", "k", params={"a@b": 1}, tags={}, datasets=[LINK])
        run.log_artifact(tmp_path / "note.txt")
        (tmp_path / "note.txt").write_text("another")
        for step in range(20):
            run.log_metrics({"pck@3" if step in (5, 6) else "pck/3": float(step)}, step)
    expected = [(step, float(step)) for step in range(20) if step not in (5, 6)]
    run_id = str(tracker.run_id(run))
    assert history(config, run_id, "pck/3") == expected
    assert not MlflowClient(tracking_uri=config.uri).list_artifacts(run_id)
    assert len(runs(config)[0].inputs.dataset_inputs) == 1
    own = own_messages(caplog)
    assert len(own) == 3
    assert "note.txt: has changed since it was logged" in own[1]
    assert all("refuses" in message and "\n" not in message for message in own)
    assert sync(tmp_path, config.uri) == Counter()


def test_a_server_that_grants_no_access_loses_nothing(
    server: Server, config: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE_S", 0.3)
    server.is_open = False
    with Tracker(tmp_path, config) as tracker:
        run = tracker.start("one", "k", **ABOUT)
        run.log_metrics({"loss": 0.5}, 0)
    until_stopped()
    with pytest.raises(UserError, match="401"):
        sync(tmp_path, config.uri)
    server.is_open = True
    assert sync(tmp_path, config.uri) == Counter(runs=1, metrics=1)


def test_one_call_that_always_fails_does_not_stop_the_others(
    server: Server, config: TrackingConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.lose = lambda path: path == "mlflow/runs/update"
    with Tracker(tmp_path, config) as tracker:
        run = tracker.start("one", "k", **ABOUT)
        run.set_status("FINISHED")
        run.log_metrics({"loss": 1.0}, 0)
    assert history(config, tracker.run_id(run), "loss") == [(0, 1.0)]
    assert any("refuses" in message for message in own_messages(caplog))


def test_the_caller_does_not_wait(server: Server, config: TrackingConfig, tmp_path: Path) -> None:
    release = threading.Event()
    server.lose = lambda path: path == "mlflow/runs/create" and not release.wait(20)
    with Tracker(tmp_path, config) as tracker:
        run = tracker.start("one", "k", **ABOUT)
        for step in range(300):
            run.log_metrics({"loss": float(step)}, step)
        assert tracker.run_id(run) is None
        server.asked.clear()
        release.set()
    assert len(history(config, tracker.run_id(run), "loss")) == 300
    # The params, then all metrics together.
    assert server.asked.count("mlflow/runs/log-batch") == 2


@pytest.fixture
def model(tmp_path: Path) -> ModelLink:
    network = NetworkConfig(options={"width": 16, "dimension": 16})
    folder = tmp_path / "model"
    save_model(folder, build_network(network.name, network.options), network)
    tags = {"pck/5": "81.25", "manifest_sha256.training": LINK.digest}
    return ModelLink("model", model_digests(folder)[WEIGHTS], str(folder), tags, "some model")


def test_a_model_is_one_logged_model_and_one_version(
    server: Server, config: TrackingConfig, model: ModelLink, tmp_path: Path
) -> None:
    client = MlflowClient(tracking_uri=config.uri)
    losses = iter([True] * 3)
    for path in ("logged-models", "model-versions/create", "outputs"):
        server.lose = lambda asked, end=path: asked.endswith(end) and next(losses, False)
        with Tracker(tmp_path / path, config) as tracker:
            run = tracker.start("train", "k", **ABOUT)
            for _ in range(2):
                run.log_model(model, tmp_path / "model", 7)
            run.log_metrics({"pck/5": 81.25}, 7, model, LINK)
    with Tracker(tmp_path / "evaluate", config) as tracker:
        reader = tracker.start("evaluate", "k", **ABOUT)
        reader.log_model(model)
        reader.log_metrics({"pck/5": 60.0}, 0, model, LINK)
    *trained, evaluated = runs(config)
    (logged,) = client.search_logged_models([evaluated.info.experiment_id])
    assert str(logged.status) == "READY"
    assert logged.source_run_id == trained[0].info.run_id
    for one in trained:
        assert [out.model_id for out in one.outputs.model_outputs] == [logged.model_id]
    assert [one.model_id for one in evaluated.inputs.model_inputs] == [logged.model_id]
    scores = {(score.run_id, score.dataset_name, score.value) for score in logged.metrics}
    assert (evaluated.info.run_id, "training", 60.0) in scores
    assert (trained[0].info.run_id, "training", 81.25) in scores
    (version,) = client.search_model_versions("name = 'some model'")
    assert version.run_id == trained[0].info.run_id
    assert version.tags == {**model.tags, "ucn.sha256": model.sha256}
    shown = [{"name": "some model", "version": str(version.version)}]
    assert json.loads(logged.tags["mlflow.modelVersions"]) == shown
    for uri in ("models:/some model/1", f"models:/{logged.model_id}"):
        folder = download_artifacts(uri, dst_path=str(tmp_path / uri[-9:]), tracking_uri=config.uri)
        assert load_model(folder).config.descriptor_dimension == 16


def test_a_model_that_was_only_read_has_no_files(
    server: Server, config: TrackingConfig, model: ModelLink, tmp_path: Path
) -> None:
    losses = iter([True])
    server.lose = lambda asked: asked.endswith("logged-models") and next(losses, False)
    for output in ("a", "b"):
        with Tracker(tmp_path / output, config) as tracker:
            tracker.start("evaluate", "k", **ABOUT).log_model(model)
    client = MlflowClient(tracking_uri=config.uri)
    experiment_id = runs(config)[0].info.experiment_id
    (logged,) = client.search_logged_models([experiment_id])
    assert str(logged.status) == "READY"
    assert logged.tags["mlflow.model.isExternal"] == "true"
    assert logged.params["place"] == model.place
    assert not client.list_logged_model_artifacts(logged.model_id)


def test_the_machine_is_watched(config: TrackingConfig, tmp_path: Path) -> None:
    name = "system/cpu_utilization_percentage"
    with Tracker(tmp_path, config) as tracker:
        run = tracker.start("one", "k", **ABOUT)
        with system_metrics(run.log_metrics, 0.05):
            until(lambda: [e for e in entries(tmp_path, "metrics") if name in e["values"]])
    (found,) = runs(config)
    assert name in found.data.metrics
    for name in ("system_memory_usage_percentage", "disk_usage_percentage"):
        assert 0 < found.data.metrics[f"system/{name}"] <= 100
    assert found.data.metrics["system/network_receive_megabytes"] >= 0
    assert not [t for t in threading.enumerate() if t.name == "system-metrics"]


def test_without_tracking_nothing_is_written(tmp_path: Path) -> None:
    config = TrackingConfig(uri=f"sqlite:///{tmp_path / 'mlflow.db'}", enabled=False)
    with Tracker(tmp_path, config) as tracker:
        run = tracker.start("one", "k", **ABOUT)
        with system_metrics(run.log_metrics, 0.01):
            run.log_metrics({"loss": 1.0}, 0)
            run.log_artifact(tmp_path / "none")
            run.set_status("FINISHED")
    assert tracker.run_id(run) is None
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / TRACKING).write_text("a file in the way")
    RunLog(tmp_path / TRACKING, "one").log_metrics({"loss": 1.0})
    (message,) = own_messages(caplog)
    assert "cannot be written" in message


def test_a_relative_database_lies_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "my run#1?50%20"
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with Tracker(Path("out"), TrackingConfig(uri="sqlite:///my.db?timeout=9")) as tracker:
        run = tracker.start("one", "k", params={}, tags={})
        monkeypatch.chdir(tmp_path)
        until(lambda: tracker.run_id(run))
    assert (tmp_path / name / "my.db").exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert sqlite_path(sqlite_uri(tmp_path / name / "my.db")) == tmp_path / name / "my.db"
    assert sqlite_path("http://host:5000") is None


def test_the_environment_names_the_server_where_no_option_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert TrackingConfig().uri == "sqlite:///mlflow.db"
    assert TrackingConfig().experiment == "ucn"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    assert TrackingConfig().uri == TrainConfig().tracking.uri == "http://team:5000"
    assert TrackingConfig().experiment == "ours"
    assert TrackingConfig(uri="http://mine:5000", experiment="mine").uri == "http://mine:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    with pytest.raises(UserError, match="mlruns is neither a database nor a server"):
        TrackingConfig()


@pytest.mark.parametrize("uri", ["mlruns", "file:///mlruns", "foo://bar", "http:/host", ""])
def test_addresses_that_mlflow_cannot_track_to_are_refused(uri: str) -> None:
    with pytest.raises(UserError, match="neither a database nor a server"):
        TrackingConfig(uri=uri)


def test_params_are_flattened_and_cut() -> None:
    assert flatten({"a": {"b": {"c": None}}, "d": [1], "e": {}}) == {
        "a.b.c": "None", "d": "[1]", "e": "{}",
    }  # fmt: skip
    assert len(flatten({"long": "x" * 9000})["long"]) == 500
