"""MLflow runs, and what happens when MLflow is not there."""

import json
import logging
import socket
import threading
import time
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

from ucn.training.config import NetworkConfig, TrackingConfig
from ucn.training.model import load_model, save_model
from ucn.training.networks import build_network
from ucn.training.tracking import (
    DatasetLink,
    RunLogger,
    delivery,
    flatten,
    register_model,
    resolve_tracking,
    start_run,
    system_metrics,
)

LINK = DatasetLink("training", "0123456789abcdef" * 4, "/data/shards", "training")


def own_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("ucn.training.tracking")]


def test_a_run_holds_params_metrics_dataset_and_artifacts(tmp_path: Path) -> None:
    config = TrackingConfig(uri=f"sqlite:///{tmp_path / 'db' / 'mlflow.db'}", experiment="tests")
    run_id = start_run(config, "one", {"a": {"b": 1}, "c": "x"}, {"stage": "t"}, [LINK])
    assert run_id is not None
    (tmp_path / "note.txt").write_text("hello")
    run = RunLogger(config, run_id)
    run.log_metrics({"loss": 0.5, "pck/3": 40}, 0)
    run.log_metrics({"loss": 0.25}, 1)
    run.log_artifact(tmp_path / "note.txt", "notes")
    run.log_dict({"k": [1, 2]}, "table.json")
    run.finish()
    client = MlflowClient(tracking_uri=config.uri)
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"a.b": "1", "c": "x"}
    assert found.data.metrics == {"loss": 0.25, "pck/3": 40}
    assert found.data.tags["manifest_sha256.training"] == LINK.digest
    (entry,) = found.inputs.dataset_inputs
    assert LINK.digest.startswith(entry.dataset.digest)
    assert json.loads(entry.dataset.profile)["manifest_sha256"] == LINK.digest
    assert json.loads(entry.dataset.source)["uri"] == "/data/shards"
    artifacts = tmp_path / "db" / "mlartifacts" / run_id / "artifacts"
    assert (artifacts / "notes" / "note.txt").read_text() == "hello"
    assert json.loads((artifacts / "table.json").read_text()) == {"k": [1, 2]}

    with RunLogger(config, run_id, resumes="loss") as resumed:
        resumed.restart()
        for step in range(3):
            resumed.log_metrics({"loss": float(step)}, step)
    points = client.get_metric_history(run_id, "loss")
    assert sorted((p.step, p.value) for p in points) == [(0, 0.5), (1, 0.25), (2, 2.0)]
    assert client.get_run(run_id).info.status == "RUNNING"


def test_an_outage_at_the_start_leaves_no_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(delivery, "PATIENCE_S", 0.5)
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 0.1)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        config = TrackingConfig(uri=f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert start_run(config, "one", {}, {}, []) is None
    first, last = own_messages(caplog)
    assert "trying again" in first
    assert "going on without it" in last
    assert "\n" not in first + last


class Server:
    """MLflow's own server on loopback, over SQLite.

    Attributes:
        is_up: whether it answers; otherwise it drops every connection.
        lose: from the path of a request to whether its answer is lost once it is done.
        asked: paths of the requests.
    """

    def __init__(self, folder: Path) -> None:
        from mlflow.server import app, handlers

        self.is_up = True
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
    yield started_server
    started_server.lose = lambda path: False
    started_server.is_up = True


def history(config: TrackingConfig, run_id: str, metric: str) -> list[tuple[int, float]]:
    client = MlflowClient(tracking_uri=config.uri)
    return sorted((p.step, p.value) for p in client.get_metric_history(run_id, metric))


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_that_comes_late_is_waited_for(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.is_up = False
    server.asked.clear()

    def come() -> None:
        until(lambda: len(server.asked) >= 2)
        server.is_up = True

    coming = threading.Thread(target=come)
    coming.start()
    run_id = start_run(server.config, "one", {"a": 1}, {}, [])
    coming.join()
    assert run_id is not None
    run = MlflowClient(tracking_uri=server.config.uri).get_run(run_id)
    assert run.data.params == {"a": "1"}
    (message,) = own_messages(caplog)
    assert "MLflow does not answer" in message
    assert "trying again for 30 s" in message


def test_all_metrics_arrive_once_in_spite_of_an_outage(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ucn.training.tracking")
    run_id = start_run(server.config, "one", {"a": 1}, {}, [LINK])
    assert run_id is not None
    picture = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    with RunLogger(server.config, run_id) as run:
        for step in range(400):
            run.log_metrics({"loss": step / 2, "rate": float(step)}, step)
            if step == 100:
                until(lambda: "mlflow/runs/log-batch" in server.asked)
                server.is_up = False
            if step == 200:
                run.log_picture(picture, "validation/step-000200/pair.png")
                until(lambda: own_messages(caplog))
                server.is_up = True
    assert history(server.config, run_id, "loss") == [(step, step / 2) for step in range(400)]
    assert len(history(server.config, run_id, "rate")) == 400
    client = MlflowClient(tracking_uri=server.config.uri)
    path = client.download_artifacts(run_id, "validation/step-000200/pair.png")
    assert np.array_equal(cv2.imread(path)[..., ::-1], picture)
    away, back = own_messages(caplog)
    assert "does not answer" in away
    assert "answers again" in back


def test_what_was_delivered_though_its_answer_was_lost_is_there_once(server: Server) -> None:
    run_id = start_run(server.config, "one", {}, {}, [])
    assert run_id is not None
    losses = iter([True, True, False, True])
    server.lose = lambda path: path == "mlflow/runs/log-batch" and next(losses, False)
    with RunLogger(server.config, run_id) as run:
        for step in range(50):
            run.log_metrics({"loss": float(step), "not a number": float("nan")}, step)
            time.sleep(0.002)
    assert next(losses, None) is None
    assert history(server.config, run_id, "loss") == [(step, float(step)) for step in range(50)]
    assert len(history(server.config, run_id, "not a number")) == 50


def test_a_run_is_gone_on_with_though_mlflow_is_away_at_first(server: Server) -> None:
    run_id = start_run(server.config, "one", {}, {}, [])
    with RunLogger(server.config, run_id) as run:
        for step in range(7):
            run.log_metrics({"loss": float(step)}, step)
    server.is_up = False
    with RunLogger(server.config, run_id, resumes="loss") as run:
        run.restart()
        for step in range(4, 10):
            run.log_metrics({"loss": float(step)}, step)
        time.sleep(0.1)
        server.is_up = True
    assert run_id is not None
    assert history(server.config, run_id, "loss") == [(step, float(step)) for step in range(10)]


def test_what_cannot_be_delivered_is_counted(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE_S", 0.3)
    run_id = start_run(server.config, "one", {}, {}, [])
    server.is_up = False
    run = RunLogger(server.config, run_id)
    for step in range(30):
        run.log_metrics({"loss": 1.0, "rate": 1.0}, step)
    run.finish()
    run.log_metrics({"loss": 1.0}, 31)
    away, lost = own_messages(caplog)
    assert "does not answer" in away
    assert "60 metrics and 1 other entries were not delivered" in lost


def test_the_end_does_not_sit_out_a_long_wait(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 60.0)
    monkeypatch.setattr(delivery, "PATIENCE_S", 5.0)
    run_id = start_run(server.config, "one", {}, {}, [])
    assert run_id is not None
    server.is_up = False
    run = RunLogger(server.config, run_id)
    run.log_metrics({"loss": 1.0}, 0)
    until(lambda: own_messages(caplog))
    server.is_up = True
    run.close()
    assert history(server.config, run_id, "loss") == [(0, 1.0)]


def test_what_does_not_fit_is_counted(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE_S", 0.2)
    monkeypatch.setattr(delivery, "ROOM", 10 * delivery.ENTRY_BYTES)
    run_id = start_run(server.config, "one", {}, {}, [])
    server.is_up = False
    run = RunLogger(server.config, run_id)
    for step in range(100):
        run.log_metrics({"loss": 1.0}, step)
    assert run._delivery is not None
    assert len(run._delivery._entries) == 10
    run.log_picture(np.zeros((100, 100, 3), np.uint8), "a.png")
    run.close()
    assert "100 metrics and 1 other entries" in own_messages(caplog)[-1]


def test_what_is_refused_is_left_out_and_nothing_else(
    server: Server, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    run_id = start_run(server.config, "one", {"a": 1}, {}, [])
    assert run_id is not None
    with RunLogger(server.config, run_id) as run:
        run.log_params({"a": "2"})
        run.log_artifact(tmp_path / "not there.txt")
        for step in range(20):
            run.log_metrics({"pck@3" if step in (5, 6) else "pck/3": float(step)}, step)
    expected = [(step, float(step)) for step in range(20) if step not in (5, 6)]
    assert history(server.config, run_id, "pck/3") == expected
    assert MlflowClient(tracking_uri=server.config.uri).get_run(run_id).data.params == {"a": "1"}
    own = own_messages(caplog)
    assert len(own) == 3
    assert all("refuses" in message and "\n" not in message for message in own)


def test_one_call_that_always_fails_does_not_stop_the_others(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = start_run(server.config, "one", {}, {}, [])
    assert run_id is not None
    server.lose = lambda path: path == "mlflow/runs/set-tag"
    with RunLogger(server.config, run_id) as run:
        run.set_tags({"a": "b"})
        run.log_metrics({"loss": 1.0}, 0)
    assert history(server.config, run_id, "loss") == [(0, 1.0)]
    assert any("refuses" in message for message in own_messages(caplog))


def test_the_caller_does_not_wait(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = start_run(server.config, "one", {}, {}, [])
    assert run_id is not None
    release = threading.Event()
    server.lose = lambda path: path == "mlflow/runs/log-batch" and not release.wait(20)
    run = RunLogger(server.config, run_id)
    for step in range(300):
        run.log_metrics({"loss": float(step)}, step)
    assert history(server.config, run_id, "loss") == []
    server.asked.clear()
    release.set()
    run.finish()
    assert len(history(server.config, run_id, "loss")) == 300
    # What has gathered goes together.
    assert server.asked.count("mlflow/runs/log-batch") <= 2


def test_a_model_becomes_one_version_that_can_be_loaded(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = NetworkConfig(options={"width": 16, "dimension": 16})
    save_model(tmp_path / "model", build_network(network.name, network.options), network)
    run_id = start_run(server.config, "one", {}, {}, [LINK])
    config = server.config.model_copy(update={"model_name": "some model"})
    scores = {"pck/5": 81.25, "loss": 0.125}
    assert register_model(config, run_id, tmp_path / "model", scores) == "1"
    assert register_model(config, run_id, tmp_path / "model", scores) == "1"
    other_id = start_run(server.config, "two", {}, {}, [LINK])
    losses = iter([True])
    server.lose = lambda path: path.endswith("model-versions/create") and next(losses, False)
    assert register_model(config, other_id, tmp_path / "model", {}) == "2"
    client = MlflowClient(tracking_uri=config.uri)
    assert len(client.search_model_versions("name = 'some model'")) == 2
    version = client.get_model_version("some model", "1")
    assert version.run_id == run_id
    assert version.tags == {
        "pck/5": "81.25", "loss": "0.125", "manifest_sha256.training": LINK.digest,
    }  # fmt: skip
    for uri in ("models:/some model/1", f"runs:/{run_id}/model"):
        folder = download_artifacts(uri, dst_path=str(tmp_path / uri[:4]), tracking_uri=config.uri)
        model = load_model(folder)
        assert model.config.descriptor_dimension == 16
    assert register_model(config, None, tmp_path / "model", {}) is None
    nameless = config.model_copy(update={"model_name": None})
    third_id = start_run(server.config, "three", {}, {}, [])
    assert register_model(nameless, third_id, tmp_path / "model", {}) is None
    assert [found.path for found in client.list_artifacts(third_id)] == ["model"]
    (lost,) = own_messages(caplog)
    assert "trying again" in lost


def test_a_model_that_cannot_be_registered_is_one_warning(
    server: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE_S", 0.2)
    (tmp_path / "model").mkdir()
    server.is_up = False
    assert register_model(server.config, "some-run", tmp_path / "model", {}) is None
    server.is_up = True
    assert register_model(server.config, "some-run", tmp_path / "model", {}) is None
    away, *own = own_messages(caplog)
    assert "trying again" in away
    assert len(own) == 2
    assert all("the model is not registered" in message for message in own)


def test_the_machine_is_watched(server: Server) -> None:
    config = server.config
    run_id = start_run(config, "one", {}, {}, [])
    assert run_id is not None
    client = MlflowClient(tracking_uri=config.uri)
    name = "system/cpu_utilization_percentage"
    with RunLogger(config, run_id, resumes="loss") as run, system_metrics(run, 0.05):
        until(lambda: name in client.get_run(run_id).data.metrics)
    metrics = client.get_run(run_id).data.metrics
    for name in ("system_memory_usage_percentage", "disk_usage_percentage"):
        assert 0 < metrics[f"system/{name}"] <= 100
    assert metrics["system/network_receive_megabytes"] >= 0
    assert not [t for t in threading.enumerate() if t.name == "system-metrics"]


def test_without_a_run_nothing_happens(tmp_path: Path) -> None:
    config = TrackingConfig(uri=f"sqlite:///{tmp_path / 'mlflow.db'}", enabled=False)
    assert start_run(config, "one", {}, {}, [LINK]) is None
    with RunLogger(config, None) as run, system_metrics(run, 0.01):
        run.log_metrics({"loss": 1.0}, 0)
        run.log_dict({}, "a.json")
    assert not list(tmp_path.iterdir())


def test_relative_databases_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_tracking(TrackingConfig()).uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    remote = TrackingConfig(uri="http://host:5000")
    assert resolve_tracking(remote) == remote


def test_params_are_flattened_and_cut() -> None:
    assert flatten({"a": {"b": {"c": None}}, "d": [1], "e": {}}) == {
        "a.b.c": "None", "d": "[1]", "e": "{}",
    }  # fmt: skip
    assert len(flatten({"long": "x" * 9000})["long"]) == 500
