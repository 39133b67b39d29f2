"""The Ray job: published model, MLflow record, and a killed worker."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preprocessing.cluster import ray_session
from training.config import TrackingConfig, TrainConfig
from training.job import train
from training.model import load_model
from training.record import CHECKPOINTS

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def session():
    with ray_session(2):
        yield


def kill_a_worker_after(checkpoints: Path, killed: list[int]) -> None:
    """SIGKILL a training worker of this session as soon as the first checkpoint lies there."""
    deadline = time.monotonic() + 90
    while not list(checkpoints.rglob("state.pt")):
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)
    own = {os.getpid()} | descendants(os.getpid())
    for pid in own:
        if "RayTrainWorker" in command_line(pid):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            return


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def descendants(pid: int) -> set[int]:
    children: set[int] = set()
    for task in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((task / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == pid:
            children |= {int(task.name)} | descendants(int(task.name))
    return children


def history(run_id: str, uri: str, name: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    points = MlflowClient(tracking_uri=uri).get_metric_history(run_id, name)
    return [(point.step, point.value) for point in points]


def test_killed_worker_goes_on_from_the_last_checkpoint(
    tmp_path: Path, tiny_config: TrainConfig, write_shards: Callable[[str, int], Path]
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    data = tiny_config.data.model_copy(
        update={
            "shards": str(write_shards("train", 12)),
            "validation_shards": str(write_shards("val", 2)),
        }
    )
    base = tiny_config.model_copy(
        update={
            "data": data,
            "steps": 60,
            "workers": 2,
            "checkpoint_every": 10,
            "validate_every": 30,
            "tracking": TrackingConfig(uri=uri),
        }
    )
    calm = train(base.model_copy(update={"output": tmp_path / "calm"}))
    output = tmp_path / "killed"
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker_after, args=(output / CHECKPOINTS, killed))
    killer.start()
    rough = train(base.model_copy(update={"output": output}))
    killer.join()
    assert killed
    assert calm.run_id is not None
    assert rough.run_id is not None
    calm_losses, losses = (history(run, uri, "loss") for run in (calm.run_id, rough.run_id))
    assert [step for step, _ in losses] == list(range(60))
    np.testing.assert_allclose(losses, calm_losses, rtol=1e-4)
    assert (
        load_model(rough.model).config.scores["validation/pck/10"]
        == rough.metrics["validation/pck/10"]
    )
