"""MLflow's own server killed under a training, and the PostgreSQL behind it: what arrives."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.faults.noise_training import EPOCH, noise_config
from tests.faults.observer import Observer
from tests.faults.servers import MlflowServer, mlflow_server, postgres
from tests.tell import tell
from ucn.cluster.session import ray_session
from ucn.training import job
from ucn.training.config import TrackingConfig, TrainConfig
from ucn.training.job import TrainResult, train
from ucn.training.model import load_model
from ucn.training.tracking import Tracker, delivery, sync

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

STEPS = EPOCH
POINTS = 600


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    with ray_session(1):
        yield


@pytest.fixture
def observer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Observer:
    """Holds the training at steps that are not allowed yet."""
    observer = Observer(tmp_path / "notes")
    monkeypatch.setattr(job, "work", observer.watch(job.work))
    return observer


@pytest.fixture
def config(tmp_path: Path, server: MlflowServer) -> TrainConfig:
    tracking = {"uri": server.uri, "experiment": "faults", "model_name": None}
    return noise_config(tmp_path, STEPS, workers=1, min_workers=None, tracking=tracking)


@pytest.fixture
def start(config: TrainConfig) -> Iterator[Callable[[], Future[TrainResult]]]:
    """Starts the training in the background."""
    with ThreadPoolExecutor() as pool:
        yield lambda: pool.submit(train, config)


def own_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("ucn.training.tracking")]


def history(uri: str, run_id: str | None, metric: str = "loss") -> list[int]:
    """Steps at which a run has a metric, in order, as often as it has it."""
    points = MlflowClient(tracking_uri=uri).get_metric_history(run_id, metric)
    return sorted(point.step for point in points)


@pytest.mark.ray
@pytest.mark.usefixtures("session")
def test_a_run_that_a_server_missed_is_delivered_later(
    server: MlflowServer,
    observer: Observer,
    config: TrainConfig,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE_S", 2.0)
    observer.allow(STEPS)
    server.kill()
    try:
        result = train(config)
    finally:
        server.start()
    assert result.run_id is None
    load_model(result.model)
    away, waiting = own_messages(caplog)
    assert f"{server.uri}: MLflow does not answer" in away
    assert "run `ucn sync" in waiting
    counts = sync(Path(config.output), server.uri)
    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name("faults")
    (run,) = client.search_runs([experiment.experiment_id], max_results=1)
    found = history(server.uri, run.info.run_id)
    tell(f"MLflow down during a run: {counts['metrics']} values by ucn sync, {len(found)} losses")
    assert found == list(range(STEPS))
    assert run.info.status == "FINISHED"


@pytest.mark.ray
@pytest.mark.usefixtures("session")
def test_a_server_that_starts_after_the_run_is_waited_for(
    server: MlflowServer,
    observer: Observer,
    config: TrainConfig,
    start: Callable[[], Future[TrainResult]],
) -> None:
    server.kill()
    observer.allow(STEPS)
    training = start()
    time.sleep(3)
    server.start()
    result = training.result()
    found = history(server.uri, result.run_id)
    tell(f"MLflow starts after the run: {STEPS} losses sent, {len(found)} there")
    assert found == list(range(STEPS))


@pytest.mark.ray
@pytest.mark.usefixtures("session")
def test_a_server_that_is_killed_in_the_middle_gets_all_later(
    server: MlflowServer,
    observer: Observer,
    config: TrainConfig,
    start: Callable[[], Future[TrainResult]],
) -> None:
    observer.allow(4)
    training = start()
    observer.wait_for(workers=1, step=3)
    server.kill()
    observer.allow(9)
    observer.wait_for(workers=1, step=8)
    server.start()
    observer.allow(STEPS)
    result = training.result()
    found = history(server.uri, result.run_id)
    lost = set(range(STEPS)) - set(found)
    tell(
        f"MLflow killed in the middle: {STEPS} losses sent, {len(found)} there, {len(lost)} lost, "
        f"{len(found) - len(set(found))} twice"
    )
    assert found == list(range(STEPS))
    run = MlflowClient(tracking_uri=server.uri).get_run(result.run_id)
    assert run.info.status == "FINISHED"


@pytest.mark.ray
@pytest.mark.usefixtures("session")
def test_a_server_that_is_away_at_the_end_is_waited_for(
    server: MlflowServer,
    observer: Observer,
    config: TrainConfig,
    start: Callable[[], Future[TrainResult]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end and the model come as soon as it is back."""
    monkeypatch.setattr(delivery, "PATIENCE_S", 300.0)
    observer.allow(STEPS - 2)
    training = start()
    observer.wait_for(workers=1, step=STEPS - 3)
    server.kill()
    observer.allow(STEPS)
    observer.wait_for(workers=1, step=STEPS - 1)
    server.start()
    result = training.result()
    found = history(server.uri, result.run_id)
    tell(f"MLflow killed near the end, and back: {STEPS} losses sent, {len(found)} there")
    assert found == list(range(STEPS))
    client = MlflowClient(tracking_uri=server.uri)
    assert client.get_run(result.run_id).info.status == "FINISHED"
    assert len(client.get_run(result.run_id).outputs.model_outputs) == 1


@pytest.mark.ray
@pytest.mark.usefixtures("session")
def test_what_a_server_that_stays_away_misses_stays_in_the_log(
    server: MlflowServer,
    observer: Observer,
    config: TrainConfig,
    start: Callable[[], Future[TrainResult]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE_S", 2.0)
    observer.allow(STEPS - 2)
    training = start()
    observer.wait_for(workers=1, step=STEPS - 3)
    server.kill()
    observer.allow(STEPS)
    try:
        result = training.result()
    finally:
        server.start()
    load_model(result.model)
    assert any("were not delivered to MLflow" in message for message in own_messages(caplog))
    before = history(server.uri, result.run_id)
    sync(Path(config.output), server.uri)
    found = history(server.uri, result.run_id)
    tell(f"MLflow killed near the end, for good: {len(before)} losses, {len(found)} by ucn sync")
    assert found == list(range(STEPS))


def test_a_restarted_postgresql_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ucn.training.tracking")
    with postgres() as database, mlflow_server(tmp_path, database.uri) as server:
        config = TrackingConfig(uri=server.uri, experiment="faults")
        written = threading.Event()

        def write() -> str | None:
            with Tracker(tmp_path, config) as tracker:
                run = tracker.start("one", "key", params={"a": 1}, tags={})
                for step in range(POINTS):
                    run.log_metrics({"loss": step / 2, "rate": float(step)}, step)
                    if step == POINTS // 10:
                        written.set()
                    time.sleep(0.02)
            return tracker.run_id(run)

        with ThreadPoolExecutor() as pool:
            writing = pool.submit(write)
            written.wait()
            database.restart_at_once()
            time.sleep(2)
            database.kill()
            time.sleep(3)
            database.start()
            run_id = writing.result()
        for metric in ("loss", "rate"):
            found = history(server.uri, run_id, metric)
            lost = set(range(POINTS)) - set(found)
            tell(
                f"PostgreSQL restarted at once, then killed and started: {POINTS} points of "
                f"{metric} sent, {len(found)} there, {len(lost)} lost, "
                f"{len(found) - len(set(found))} twice"
            )
            assert found == list(range(POINTS))
    assert not [message for message in own_messages(caplog) if "refuses" in message]
