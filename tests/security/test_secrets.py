"""Credentials reach no log, no parameter and no message."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from ucn.errors import UserError
from ucn.evaluation import tracking
from ucn.evaluation.config import EvaluateConfig
from ucn.storage.addresses import holds_secret, redact
from ucn.storage.stores import open_store
from ucn.training.config import TrackingConfig
from ucn.training.tracking import TRACKING, DatasetLink, ModelLink, Tracker
from ucn.training.tracking.delivery import Delivery
from ucn.training.tracking.log import RunLog
from ucn.training.tracking.server import brief

SECRET = "hunter2"
SERVER = f"http://me:{SECRET}@127.0.0.1:9"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (f"http://me:{SECRET}@host:5000/a?token={SECRET}#{SECRET}", "http://host:5000/a"),
        (f"postgresql+psycopg2://me:{SECRET}@db/runs", "postgresql+psycopg2://db/runs"),
        (f"http://a@b:{SECRET}@host/x", "http://host/x"),
        (f"http://me:'{SECRET}@[host/x", "http://[host/x"),
        ("sqlite:////folder/mlflow.db", "sqlite:////folder/mlflow.db"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("/a folder/me@here", "/a folder/me@here"),
        ("s3://bucket/folder", "s3://bucket/folder"),
        (f"s3://key:{SECRET}@bucket/folder", "s3://bucket/folder"),
        (f"http://me:{SECRET}@[host/x", "http://[host/x"),
        ("/data/a?b", "/data/a?b"),
    ],
)
def test_uris_are_shown_without_secrets(uri: str, expected: str) -> None:
    assert redact(uri) == expected
    assert redact(f"no '{uri}' (here)") == f"no '{expected}' (here)"
    assert holds_secret(uri) == (SECRET in uri)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("ucn.training.tracking.delivery.PATIENCE_S", 0.2)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("uri", [SERVER, f"postgresql://me:{SECRET}@nowhere.invalid:port/runs"])
def test_a_tracking_server_that_is_away_is_told_without_its_password(
    tmp_path: Path, uri: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    link = DatasetLink("a", "d", f"s3://key:{SECRET}@bucket/shards", "training")
    model = ModelLink("model", "d", f"s3://key:{SECRET}@bucket/model", {})
    with Tracker(tmp_path, TrackingConfig(uri=uri)) as tracker:
        run = tracker.start("train", "k", params={"a": uri}, tags={"b": uri}, datasets=[link])
        run.log_model(model)
    assert "were not delivered to MLflow" in caplog.text or "refuses an entry" in caplog.text
    assert SECRET not in caplog.text + "".join(capfd.readouterr())
    files = [path.read_text() for path in (tmp_path / TRACKING).iterdir()]
    assert files
    assert SECRET not in "".join(files)


def test_refusals_of_a_server_are_told_without_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError(f"no such table at postgresql://me:{SECRET}@db/runs?sslkey={SECRET}")

    monkeypatch.setattr("ucn.training.tracking.server.Server.deliver", refuse)
    monkeypatch.setattr("ucn.training.tracking.server.Server.probe", lambda server: None)
    RunLog(tmp_path, "one").log_metrics({"loss": 1.0})
    assert Delivery(tmp_path, "http://host").deliver() is None
    assert "MLflow refuses an entry (no such table at postgresql://db/runs)" in caplog.text
    assert brief(OSError(f"{SERVER}/x")) == "http://127.0.0.1:9/x"


@pytest.mark.usefixtures("impatient")
def test_where_an_evaluation_is_recorded_is_no_parameter_of_it(tmp_path: Path) -> None:
    config = EvaluateConfig(
        shards=("s3://bucket/shards",), tracking=TrackingConfig(uri=SERVER), output=tmp_path
    )
    data = SimpleNamespace(digest="d", uri="s3://bucket/shards")
    with tracking.mlflow_run(config, ["shards"], [data]):  # type: ignore[list-item]
        pass
    log = (tmp_path / TRACKING / "log.jsonl").read_text()
    assert "s3://bucket/shards" in log
    assert SECRET not in log


@pytest.mark.parametrize("endpoint", [f"me:{SECRET}@host", f"http://me:{SECRET}@bad host/"])
def test_an_endpoint_that_cannot_be_is_told_without_its_password(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr("ucn.storage.s3._ATTEMPTS", 1)
    with pytest.raises(UserError) as error:
        open_store("s3://bucket/folder").sizes()
    assert str(error.value).startswith("s3://bucket/folder: ")
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://key:{SECRET}@bucket/x",
        f"s3://bucket/x?X-Amz-Signature={SECRET}",
        f"gs://bucket/x?access_token={SECRET}",
        f"https://me:{SECRET}@host/x",
    ],
)
def test_places_with_secrets_are_refused_unseen(uri: str) -> None:
    with pytest.raises(UserError, match="set the rest in the environment") as error:
        open_store(uri)
    assert SECRET not in str(error.value)
