"""The MLflow runs of an evaluation in its log, after a kill and after a change."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.tracking import mlflow_run
from ucn.training.config import TrackingConfig
from ucn.training.tracking import TRACKING, delivery
from ucn.training.tracking.log import read_log

SET: Any = SimpleNamespace(digest="d" * 64, uri="/shards")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvaluateConfig:
    """With a server that is never there."""
    monkeypatch.setattr(delivery, "PATIENCE_S", 0.0)
    monkeypatch.setattr(delivery, "POLL_S", 0.01)
    tracking = TrackingConfig(uri="http://127.0.0.1:9")
    return EvaluateConfig(
        shards=("/shards",), baselines=("sift",), tracking=tracking, output=tmp_path
    )


def entries(config: EvaluateConfig, kind: str) -> list[dict[str, Any]]:
    log = read_log(config.output / TRACKING)
    return [line.entry for line in log if line.entry.get("kind") == kind]


def log(config: EvaluateConfig, scores: dict[str, float]) -> None:
    row = SimpleNamespace(method="sift", metrics=scores, curve=range(50))
    report: Any = SimpleNamespace(name="val", methods=[row])
    with mlflow_run(config, ["val"], [SET]) as run:
        run.log([report], {"liberty": {"sift": 9.0}}, {})


def test_a_killed_evaluation_goes_on_in_its_runs(config: EvaluateConfig) -> None:
    with pytest.raises(KeyboardInterrupt), mlflow_run(config, ["val"], [SET]):
        raise KeyboardInterrupt
    for workers in (1, 2):
        log(config.model_copy(update={"workers": workers}), {"pck/10": 50.0})
    parent, child, patches = entries(config, "run")
    assert parent["name"] == "evaluate · val"
    assert [one["name"] for one in (child, patches)] == ["val · dense SIFT", "liberty · dense SIFT"]
    assert [one["parent"] for one in (child, patches)] == [parent["run"]] * 2
    assert (child["tags"]["set"], child["tags"]["method"]) == ("val", "sift")
    ends = [one["status"] for one in entries(config, "status") if one["run"] == parent["run"]]
    assert ends == ["FAILED", "RUNNING", "FINISHED", "RUNNING", "FINISHED"]
    found = [(one["run"], one["values"]) for one in entries(config, "metrics")]
    assert found.count((child["run"], {"pck/10": 50.0})) == 1
    assert found.count((patches["run"], {"fpr95": 9.0})) == 1
    assert [values for run, values in found if run == child["run"]][1:] == [
        {"pck_curve": float(value)} for value in range(50)
    ]


@pytest.mark.parametrize("change", [{"points": 7}, {"baselines": ("daisy",)}])
def test_another_evaluation_is_another_run(config: EvaluateConfig, change: dict[str, Any]) -> None:
    for one in (config, config.model_copy(update=change), config):
        with mlflow_run(one, ["val"], [SET]):
            pass
    with mlflow_run(config, ["val"], [SimpleNamespace(digest="e" * 64, uri="/shards")]):  # type: ignore[list-item]
        pass
    assert len(entries(config, "run")) == 4
