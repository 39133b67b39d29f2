"""The Ray job: published model, MLflow record, and a killed worker."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ucn.cluster.session import ray_session
from ucn.errors import UserError
from ucn.training import job
from ucn.training.config import TrackingConfig, TrainConfig
from ucn.training.job import train
from ucn.training.model import load_model
from ucn.training.run_state import CHECKPOINTS

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def session():
    with ray_session(2):
        yield


def kill_a_worker_after(checkpoints: Path, killed: list[int]) -> None:
    """SIGKILL a training worker of this session as soon as the first checkpoint lies there."""
    wait_for_checkpoint(checkpoints)
    own = {os.getpid()} | descendants(os.getpid())
    for pid in own:
        if "RayTrainWorker" in command_line(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return


def wait_for_checkpoint(folder: Path) -> None:
    deadline = time.monotonic() + 240
    while not list(folder.rglob("state.pt")):
        assert time.monotonic() < deadline, "no checkpoint comes"
        time.sleep(0.02)


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


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('tracking') / 'mlflow.db'}"


@pytest.fixture
def base(
    uri: str, tiny_config: TrainConfig, write_shards: Callable[[str, int], Path]
) -> TrainConfig:
    """Two workers, each with one thread, as threads change how sums are rounded."""
    data = tiny_config.data.model_copy(
        update={
            "shards": (str(write_shards("train", 12)),),
            "validation_shards": str(write_shards("val", 2)),
        }
    )
    return tiny_config.model_copy(
        update={
            "data": data,
            "steps": 60,
            "workers": 2,
            "threads": 1,
            "checkpoint_every": 10,
            "validate_every": 30,
            "tracking": TrackingConfig(uri=uri),
        }
    )


def test_fewer_gpus_than_workers_are_refused(
    tmp_path: Path, base: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job.ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 1.0})
    config = base.model_copy(
        update={"output": tmp_path / "run", "tracking": TrackingConfig(enabled=False)}
    )
    with pytest.raises(UserError, match="workers: 2, but Ray has 1 GPUs; lower workers"):
        train(config)


def test_killed_worker_goes_on_from_the_last_checkpoint(
    tmp_path: Path, uri: str, base: TrainConfig
) -> None:
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
    assert losses == calm_losses  # bit by bit
    assert (
        load_model(rough.model).config.scores["validation/pck/10"]
        == rough.metrics["validation/pck/10"]
    )


def test_killed_driver_goes_on_with_another_number_of_workers(
    tmp_path: Path, uri: str, base: TrainConfig
) -> None:
    """Two workers until everything is killed, then one: as one alone, to rounding."""
    calm = train(base.model_copy(update={"output": tmp_path / "calm", "workers": 1}))
    output = tmp_path / "killed"
    config = base.model_copy(update={"output": output})
    code = (
        "import sys\nfrom ucn.training.config import TrainConfig\n"
        "from ucn.training.job import train\n"
        "train(TrainConfig.model_validate_json(sys.stdin.read()))"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    assert driver.stdin is not None
    driver.stdin.write(config.model_dump_json())
    driver.stdin.close()
    wait_for_checkpoint(output / CHECKPOINTS)
    for pid in {driver.pid} | descendants(driver.pid):
        with suppress(ProcessLookupError):  # ended by itself since it was listed
            os.kill(pid, signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    rest = train(config.model_copy(update={"workers": 1}))
    assert calm.run_id is not None
    assert rest.run_id is not None
    expected, losses = (history(run, uri, "loss") for run in (calm.run_id, rest.run_id))
    assert [step for step, _ in losses] == list(range(60))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
