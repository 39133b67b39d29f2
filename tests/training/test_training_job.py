"""The Ray job, in a folder and in a store: published model, MLflow record, kills."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3
import numpy as np
import pytest
from pyarrow.fs import FileSelector

from ucn.cluster.session import ray_session
from ucn.errors import UserError
from ucn.pipeline.main import main
from ucn.storage.arrow import filesystem
from ucn.storage.lock import LOCK_NAME
from ucn.storage.stores import open_store
from ucn.training import job
from ucn.training.config import TrackingConfig, TrainConfig
from ucn.training.job import TrainResult, train
from ucn.training.model import WEIGHTS, load_model

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def bucket(moto_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket of an S3 server, which Ray's workers find in the environment, and a cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", moto_server)
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("UCN_LEASE_S", "3")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        boto3.client("s3").create_bucket(Bucket="runs")
        yield "s3://runs"


@pytest.fixture(scope="module", autouse=True)
def session(bucket: str) -> Iterator[None]:
    with ray_session(2):
        yield


def kill_a_worker_after_a_checkpoint(output: str, killed: list[int]) -> None:
    """SIGKILL a training worker of this session as soon as there is a checkpoint."""
    wait_for_checkpoint(output)
    own = {os.getpid()} | descendants(os.getpid())
    for pid in own:
        if "RayTrainWorker" in command_line(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return


def wait_for_checkpoint(output: str) -> None:
    system, path = filesystem(f"{output}/checkpoints")
    selector = FileSelector(path, recursive=True, allow_not_found=True)
    wait_until(lambda: any(e.base_name == "state.pt" for e in system.get_file_info(selector)))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not holds():
        assert time.monotonic() < deadline, "it does not come"
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


@contextmanager
def driver_to_kill(config: TrainConfig) -> Iterator["subprocess.Popen[str]"]:
    """Train in a process; at the end of the block, SIGKILL it and all that it started."""
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
    try:
        yield driver
    finally:
        for pid in {driver.pid} | descendants(driver.pid):
            with suppress(ProcessLookupError):  # ended by itself since it was listed
                os.kill(pid, signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL


def history(result: TrainResult, uri: str) -> list[tuple[int, float]]:
    """Steps and losses of a run, as MLflow has them."""
    from mlflow import MlflowClient

    points = MlflowClient(tracking_uri=uri).get_metric_history(result.run_id, "loss")
    return [(point.step, point.value) for point in points]


def weights(result: TrainResult) -> bytes:
    return open_store(result.model).read(WEIGHTS)


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


@pytest.fixture(scope="module")
def results() -> dict[str, TrainResult]:
    return {}


@pytest.fixture
def calm(
    results: dict[str, TrainResult], base: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> TrainResult:
    """An undisturbed run into a folder; one for all tests."""
    if not results:
        output = str(tmp_path_factory.mktemp("calm") / "run")
        results["calm"] = train(base.model_copy(update={"output": output}))
    return results["calm"]


def test_fewer_gpus_than_workers_are_refused(
    tmp_path: Path, base: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job.ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 1.0})
    config = base.model_copy(
        update={"output": str(tmp_path / "run"), "tracking": TrackingConfig(enabled=False)}
    )
    with pytest.raises(UserError, match="workers: 2, but Ray has 1 GPUs; lower workers"):
        train(config)


def test_killed_worker_goes_on_from_the_last_checkpoint(
    uri: str, base: TrainConfig, calm: TrainResult, bucket: str
) -> None:
    output = f"{bucket}/killed-worker"
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker_after_a_checkpoint, args=(output, killed))
    killer.start()
    rough = train(base.model_copy(update={"output": output}))
    killer.join()
    assert killed
    losses = history(rough, uri)
    assert [step for step, _ in losses] == list(range(60))
    assert losses == history(calm, uri)  # bit by bit
    assert weights(rough) == weights(calm)
    assert rough.model == f"{output}/model"
    scores = load_model(rough.model).config.scores
    assert scores["validation/pck/10"] == rough.metrics["validation/pck/10"]


def test_killed_driver_goes_on_from_the_store_on_another_machine(
    tmp_path: Path,
    uri: str,
    base: TrainConfig,
    calm: TrainResult,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    output = f"{bucket}/killed driver"
    config = base.model_copy(update={"output": output})
    store = open_store(output)
    with driver_to_kill(config) as driver:
        wait_until(lambda: LOCK_NAME in store.sizes())
        with pytest.raises(UserError, match=rf"another run.*\(host .*, process {driver.pid}, "):
            train(config)
        wait_for_checkpoint(output)
    assert "training.json" in store.sizes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other machine"))
    rest = train(config)
    losses = history(rest, uri)
    assert [step for step, _ in losses] == list(range(60))
    assert losses == history(calm, uri)  # bit by bit
    assert weights(rest) == weights(calm)

    monkeypatch.setattr(job, "folder_lock", None)
    assert train(config).model == rest.model  # finished: nothing is started
    # The newest two checkpoints are left, and nothing of Ray's.
    system, path = filesystem(f"{output}/checkpoints")
    entries = system.get_file_info(FileSelector(path, recursive=True))
    assert sorted(one.path.split("/")[-2:] for one in entries if one.is_file) == [
        ["step-00000050", "state.pt"],
        ["step-00000060", "state.pt"],
    ]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "third machine"))
    assert main(["sync", output]) == 0
    assert capfd.readouterr().out == f"{output}: nothing to deliver ({uri})\n"
    other = f"sqlite:///{tmp_path / 'other.db'}"
    assert main(["sync", output, "--uri", other]) == 0
    told = capfd.readouterr().out
    assert "1 runs" in told
    assert "1 models" in told


def test_killed_driver_goes_on_with_another_number_of_workers(
    tmp_path: Path, uri: str, base: TrainConfig, calm: TrainResult
) -> None:
    """Two workers until everything is killed, then one: as two undisturbed, to rounding."""
    config = base.model_copy(update={"output": str(tmp_path / "killed")})
    with driver_to_kill(config):
        wait_for_checkpoint(config.output)
    rest = train(config.model_copy(update={"workers": 1}))
    expected, losses = history(calm, uri), history(rest, uri)
    assert [step for step, _ in losses] == list(range(60))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
