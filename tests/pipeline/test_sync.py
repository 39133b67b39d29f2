"""`ucn sync`: what it delivers, prints and returns."""

import time
from pathlib import Path

import pytest

from ucn.pipeline.main import main
from ucn.storage.addresses import sqlite_uri
from ucn.training.config import TrackingConfig
from ucn.training.tracking import TRACKING, delivery
from ucn.training.tracking.log import start_run


def test_sync_delivers_once_in_the_order_of_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    uri = sqlite_uri(tmp_path / "mlflow.db")
    for stage in ("train", "evaluate"):
        folder = tmp_path / "out" / stage / TRACKING
        run = start_run(folder, TrackingConfig(uri=uri), stage, "key", params={}, tags={})
        run.log_metrics({"loss": 0.5, "pck@3": 1.0})
        run.log_metrics({"loss": 0.25}, 1)
        # The time of a run is in milliseconds.
        time.sleep(0.005)
    assert main(["sync", str(tmp_path / "out")]) == 1
    told = capfd.readouterr()
    trained, evaluated = told.out.splitlines()
    assert trained.startswith(f"{tmp_path / 'out' / 'train'}: ")
    assert {"1 runs", "1 metrics", "1 refused"} <= set(
        trained.split(": ")[1].split(" (")[0].split(", ")
    )
    assert uri in evaluated
    assert main(["sync", str(tmp_path / "out" / "train")]) == 0
    assert capfd.readouterr().out == f"{tmp_path / 'out' / 'train'}: nothing to deliver ({uri})\n"


def test_errors_of_sync_are_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["sync", str(tmp_path)]) == 2
    assert str(tmp_path) in capfd.readouterr().err
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(delivery, "PATIENCE_S", 0.2)
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 0.1)
    folder = tmp_path / TRACKING
    start_run(folder, TrackingConfig(uri="sqlite:///no.db"), "one", "key", params={}, tags={})
    assert main(["sync", str(tmp_path), "--uri", "http://127.0.0.1:9"]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert "http://127.0.0.1:9" in last
    assert "log.jsonl" in last
