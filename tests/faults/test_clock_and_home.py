"""The machine's clock jumps by an hour under a job; the home folder cannot be written.

Durations are measured by a clock that nobody sets, and locks by the store's or the kernel's; what
still looks at the time of day is listed here, with why that is harmless.
"""

import ast
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from safetensors.torch import load_file

from tests.faults.drives import digests, drives_config, preprocess_words
from tests.faults.mounts import PAGE, make_read_only, mounted
from tests.faults.noise_training import noise_config, undisturbed
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.training.config import TrackingConfig
from ucn.training.model import WEIGHTS
from ucn.training.tracking import Tracker

ROOT = Path(__file__).parents[2]
HOUR_S = 3600.0
LOOKS_AT_THE_TIME_OF_DAY = {
    # Shown to people, never compared.
    "src/ucn/storage/lock.py",
    "pipeline/cluster/status.py",
    # Which copies are kept: at worst one is fetched again, or none is evicted for an hour.
    "preprocessing/shards/cache.py",
    "preprocessing/shards/cache_folder.py",
    # Of a point in MLflow, beside its step.
    "training/tracking/log.py",
    "training/tracking/system.py",
}


@pytest.fixture(
    params=[-HOUR_S, pytest.param(HOUR_S, marks=pytest.mark.long)], ids=["back", "forward"]
)
def stepping_clock(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """Lets the time of day jump now."""
    true_time = time.time
    jumps: list[float] = []
    monkeypatch.setattr(time, "time", lambda: true_time() + sum(jumps))
    return lambda: jumps.append(request.param)


def test_nothing_else_looks_at_the_time_of_day() -> None:
    found = set()
    for folder in ("src/ucn", "preprocessing", "training", "evaluation", "pipeline"):
        for path in (ROOT / folder).rglob("*.py"):
            parts = ast.walk(ast.parse(path.read_text()))
            calls = {ast.unparse(part.func) for part in parts if isinstance(part, ast.Call)}
            if calls & {"time.time", "datetime.now"}:
                found.add(str(path.relative_to(ROOT)))
    assert found == LOOKS_AT_THE_TIME_OF_DAY


def test_shards_made_while_the_clock_jumps(
    world_root: Path,
    tmp_path: Path,
    stepping_clock: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    preprocess(drives_config(world_root, tmp_path / "calm"))
    from ucn.preprocessing import job

    make_shard, shards = job._make_shard, count()

    def make(task: object) -> object:
        if next(shards) == 2:
            stepping_clock()
        return make_shard(task)

    monkeypatch.setattr(job, "_make_shard", make)
    preprocess(drives_config(world_root, tmp_path / "stepped"))
    assert next(shards) > 3
    assert digests(tmp_path / "stepped") == digests(tmp_path / "calm")
    assert verify_dataset(tmp_path / "stepped") == []


def test_metrics_sent_while_the_clock_jumps(
    tmp_path: Path, stepping_clock: Callable[[], None]
) -> None:
    config = TrackingConfig(uri=f"sqlite:///{tmp_path / 'mlflow.db'}", experiment="clock")
    for part in (range(10), range(5, 15)):
        with Tracker(tmp_path, config) as tracker:
            run = tracker.start("one", "key", params={}, tags={})
            for step in part:
                run.log_metrics({"loss": step / 2}, step)
        stepping_clock()
    run_id = str(tracker.run_id(run))
    client = MlflowClient(tracking_uri=config.uri)
    points = client.get_metric_history(run_id, "loss")
    assert sorted((point.step, point.value) for point in points) == [
        (step, step / 2) for step in range(15)
    ]
    # The last one is that of the last step, not of the latest time.
    assert client.get_run(run_id).data.metrics["loss"] == 7.0


@pytest.fixture
def ucn(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs `ucn` as a command whose home can be read only, with none of its own settings."""

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        settings = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "XDG_", "MPL", "MLFLOW_"))
        }
        with mounted(tmp_path / "home", PAGE) as home:
            make_read_only(home)
            done = subprocess.run(
                [sys.executable, "-m", "ucn.pipeline.main", *words],
                cwd=tmp_path,
                env=settings | {"HOME": str(home), "PYTHONPATH": str(ROOT / "src")},
                capture_output=True,
                text=True,
                check=False,
            )
            assert list(home.iterdir()) == []
        (tmp_path / "home").rmdir()
        return done

    return run


def test_shards_without_a_home(
    world_root: Path, tmp_path: Path, ucn: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    done = ucn(*preprocess_words(drives_config(world_root, tmp_path / "out")))
    assert done.returncode == 0, done.stderr
    assert verify_dataset(tmp_path / "out") == []


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_the_other_stages_without_a_home(
    world_root: Path,
    tmp_path: Path,
    one_thread: None,
    ucn: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    config = noise_config(tmp_path, 4, workers=1, min_workers=None)
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    done = ucn("train", "--config", str(tmp_path / "train.yaml"))
    assert done.returncode == 0, done.stderr
    weights, _ = undisturbed(config)
    found = load_file(Path(config.output) / "model" / WEIGHTS)
    assert all((found[name] == one).all() for name, one in weights.items())

    shards = tmp_path / "out"
    preprocess(drives_config(world_root, shards, workers=2))
    tracking = f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"
    words = ["pairs=2", "points=50", tracking, "--model", "shipped", "--shards", str(shards)]
    done = ucn("evaluate", *words, "--output", str(tmp_path / "evaluation"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "evaluation" / "report.html").exists()
