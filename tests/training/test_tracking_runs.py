"""MLflow runs, and what happens when MLflow is not there."""

import json
import logging
import socket
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from training.config import TrackingConfig
from training.tracking import (
    DatasetLink,
    RunLogger,
    flatten,
    last_logged_step,
    resolve_tracking,
    start_run,
)

LINK = DatasetLink("training", "0123456789abcdef" * 4, "/data/shards", "training")


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

    assert last_logged_step(config, run_id, "loss") == 1
    assert last_logged_step(config, run_id, "unheard of") == -1
    with RunLogger(config, run_id, last_step=1) as resumed:
        resumed.restart()
        for step in range(3):
            resumed.log_metrics({"loss": float(step)}, step)
    points = client.get_metric_history(run_id, "loss")
    assert sorted((p.step, p.value) for p in points) == [(0, 0.5), (1, 0.25), (2, 2.0)]
    assert client.get_run(run_id).info.status == "RUNNING"


def test_an_outage_warns_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        config = TrackingConfig(uri=f"http://127.0.0.1:{unused.getsockname()[1]}")
        with caplog.at_level(logging.WARNING, logger="training.tracking"):
            assert start_run(config, "one", {}, {}, []) is None
            assert len(caplog.records) == 1
            run = RunLogger(config, "some-run")
            for step in range(50):
                run.log_metrics({"loss": 1.0}, step)
            run.finish()
            assert last_logged_step(config, "some-run", "loss") == -1
    own = [r.getMessage() for r in caplog.records if r.name == "training.tracking"]
    assert len(own) == 3  # once for the start, once for the logger, once for the question
    assert all("going on without it" in message and "\n" not in message for message in own)


def test_a_slow_server_does_not_hold_up_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def log_batch(self, *_: object, **__: object) -> None:
            time.sleep(0.3)

        def set_terminated(self, *_: object) -> None: ...

    monkeypatch.setattr("training.tracking._client", lambda config: Slow())
    run = RunLogger(TrackingConfig(), "run")
    for step in range(3):
        run.log_metrics({"loss": 1.0}, step)
    assert run._queue.qsize() >= 1  # the caller is through; the calls wait their turn
    run.finish()


def test_without_a_run_nothing_happens(tmp_path: Path) -> None:
    config = TrackingConfig(uri=f"sqlite:///{tmp_path / 'mlflow.db'}", enabled=False)
    assert start_run(config, "one", {}, {}, [LINK]) is None
    with RunLogger(config, None) as run:
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
