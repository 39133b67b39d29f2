"""The log of an output in a store: each machine goes on with it, and delivers what is uploaded."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from mlflow import MlflowClient

from ucn.errors import UserError
from ucn.storage.addresses import sqlite_uri
from ucn.storage.lock import folder_lock
from ucn.storage.stores import open_store, write_bytes
from ucn.training.config import TrackingConfig
from ucn.training.tracking import (
    TRACKING,
    Tracker,
    delivery,
    local_folder,
    mirror,
    open_output,
    sync,
)
from ucn.training.tracking.log import LOG
from ucn.training.tracking.mirror import pull

ABOUT: dict[str, Any] = {"params": {}, "tags": {}}
OUTPUT = "s3://logs/my run"


@pytest.fixture(autouse=True)
def bucket(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("UCN_LEASE_S", "3")
    monkeypatch.setattr(delivery, "POLL_S", 0.02)
    bucket = boto3.resource("s3").Bucket("logs")
    bucket.create()
    yield
    bucket.objects.delete()
    bucket.delete()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Go to a machine, which has a cache of its own."""
    return lambda name: monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))


@pytest.fixture
def config(tmp_path: Path) -> TrackingConfig:
    return TrackingConfig(uri=sqlite_uri(tmp_path / "mlflow.db"))


def history(uri: str, run_id: str | None) -> list[tuple[int, float]]:
    points = MlflowClient(tracking_uri=uri).get_metric_history(run_id, "loss")
    return sorted((point.step, point.value) for point in points)


def log(config: TrackingConfig, steps: range) -> str | None:
    """Log the steps as a driver of one training does; return MLflow's id of the run."""
    with Tracker(OUTPUT, config) as tracker:
        run = tracker.start("one", "key", **ABOUT)
        for step in steps:
            run.log_metrics({"loss": step / 8}, step)
    return tracker.run_id(run)


def test_another_machine_goes_on_in_the_same_run(
    machine: Callable[[str], None], config: TrackingConfig
) -> None:
    machine("a")
    first = log(config, range(4))
    machine("b")
    assert log(config, range(2, 6)) == first
    machine("a")
    assert log(config, range(4, 8)) == first
    assert history(config.uri, first) == [(step, step / 8) for step in range(8)]
    assert sorted(open_store(f"{OUTPUT}/{TRACKING}").sizes()) == ["delivered.json", LOG]


def test_only_what_is_uploaded_is_delivered(
    machine: Callable[[str], None],
    config: TrackingConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine("a")
    run_id = log(config, range(2))

    def fail(output: str) -> None:
        raise UserError(f"{output}: the server answers SlowDown; try again later")

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "push", fail)
        log(config, range(2, 4))
    assert len(history(config.uri, run_id)) == 2
    told = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert any("SlowDown" in one for one in told)
    assert f"run `ucn sync {OUTPUT}` later" in told[-1]
    # This machine has lines that the store lacks.
    with open_output(OUTPUT) as folder:
        assert sync(folder, config.uri)["metrics"] == 2
    assert len(history(config.uri, run_id)) == 4
    assert open_store(f"{OUTPUT}/{TRACKING}").read(LOG) == (folder / TRACKING / LOG).read_bytes()


def test_a_copy_that_the_store_does_not_continue_is_replaced(
    machine: Callable[[str], None], config: TrackingConfig
) -> None:
    """The other machine has gone on from the store's log, without the lines that are only here."""
    machine("a")
    log(config, range(2))
    own = local_folder(OUTPUT) / TRACKING / LOG
    with own.open("ab") as file:
        file.write(b'{"kind": "metrics", "run": "lost"}\n')
    kept = own.read_bytes()
    assert pull(OUTPUT) == local_folder(OUTPUT)
    assert own.read_bytes() == kept
    machine("b")
    log(config, range(2, 4))
    theirs = open_store(f"{OUTPUT}/{TRACKING}").read(LOG)
    machine("a")
    pull(OUTPUT)
    assert own.read_bytes() == theirs


def test_files_and_models_are_delivered_from_any_machine(
    tmp_path: Path, machine: Callable[[str], None], config: TrackingConfig
) -> None:
    machine("a")
    with Tracker(OUTPUT, config) as tracker:
        run = tracker.start("one", "key", **ABOUT)
        picture = run.file("validation/step-3/pair.jpg")
        picture.parent.mkdir(parents=True)
        picture.write_bytes(b"a picture")
        run.log_artifact(picture, "validation/step-3")
    machine("b")
    write_bytes(open_store(f"{OUTPUT}/model"), "model.safetensors", b"weights")
    other = sqlite_uri(tmp_path / "other.db")
    with folder_lock(OUTPUT), pytest.raises(UserError, match="another run"), open_output(OUTPUT):
        pass
    with open_output(OUTPUT) as folder:
        assert (folder / "model" / "model.safetensors").read_bytes() == b"weights"
        assert sync(folder, other) == Counter(runs=1, artifacts=1)
    machine("c")
    with open_output(f"{OUTPUT}/") as folder:
        assert sync(folder, other) == Counter()


def test_no_object_is_written_outside_the_copy(
    tmp_path: Path, machine: Callable[[str], None], config: TrackingConfig
) -> None:
    machine("a")
    log(config, range(1))
    hostile = boto3.resource("s3").Object("logs", "my run/tracking/x/../../../outside.txt")
    hostile.put(Body=b"hostile")
    machine("b")
    pull(OUTPUT)
    assert not list(tmp_path.rglob("outside.txt"))


def test_a_log_of_a_deleted_output_is_not_gone_on_with(
    machine: Callable[[str], None], config: TrackingConfig
) -> None:
    machine("a")
    first = log(config, range(2))
    boto3.resource("s3").Bucket("logs").objects.delete()
    assert log(config, range(2)) != first
