"""A node dies in mid-epoch and comes back: training shrinks, goes on and grows; nothing is lost.

Nodes are raylets of this machine with a CPU each, beside a head that has none. What is counted is
what the optimiser's steps were given; of a step that was taken again after a loss, the last time.
"""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
import psutil
import pytest
from ray._private import ray_constants
from ray.cluster_utils import Cluster
from safetensors.torch import load_file

from tests.faults.noise_training import CHECKPOINT_EVERY, EPOCH, noise_config, undisturbed
from tests.faults.observer import Observer, check_each_sample_once_an_epoch, surviving
from ucn.cluster.session import ray_session
from ucn.training import job, scaling
from ucn.training.config import TrainConfig
from ucn.training.job import TrainResult, train
from ucn.training.model import WEIGHTS

# As the workers have: sums inside a convolution depend on the threads.
pytestmark = [
    pytest.mark.long,
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("one_thread"),
]

STEPS = 6 * EPOCH
LOST_AT = EPOCH + 8
"""Steps done when the node is lost: in the middle of an epoch, and between two checkpoints."""
NODE = {"object_store_memory": 80 * 2**20}
NOTICE_SOON = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
}
"""Ray takes a node that does not answer for dead after 1.5 s instead of 15."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs, which the driver is on, and two nodes with one CPU each."""
    # On loopback, as `ray_session` does it.
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    handler = signal.getsignal(signal.SIGTERM)
    cluster = Cluster(
        initialize_head=True,
        head_node_args=NODE
        | {"num_cpus": 0, "include_dashboard": False, "_system_config": NOTICE_SOON},
    )
    try:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        with ray_session():
            for _ in range(2):
                cluster.add_node(num_cpus=1, **NODE)
            yield cluster
    finally:
        cluster.shutdown()
        signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return noise_config(tmp_path, STEPS)


def kill_node(cluster: Cluster, pid: int) -> None:
    """SIGKILL all processes of the node that a worker runs on."""
    for node in cluster.worker_nodes:
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        processes = [raylet, *raylet.children(recursive=True)]
        if pid in [process.pid for process in processes]:
            for process in processes:
                process.kill()
            cluster.remove_node(node, allow_graceful=False)
            return
    raise AssertionError(f"process {pid} is on no node")


def lose_a_node_and_bring_it_back(
    cluster: Cluster, observer: Observer, training: Future[TrainResult]
) -> None:
    try:
        first, _ = observer.wait_for(workers=2, step=LOST_AT - 1)
        kill_node(cluster, first.pid)
        # The other one finds itself alone in its next step.
        observer.allow(LOST_AT + 2)
        observer.wait_for(workers=1, step=LOST_AT + 1)
        cluster.add_node(num_cpus=1, **NODE)
        back = time.time()
        # One checkpoint interval every two seconds, until Ray has noticed the node.
        for steps in range(LOST_AT + 1, STEPS - EPOCH, CHECKPOINT_EVERY):
            observer.allow(steps)
            time.sleep(2)
            if observer.find(workers=2, since=back):
                return
        observer.wait_for(workers=2, step=0, since=back)
    except AssertionError:
        if training.done():
            training.result()  # tells more
        raise
    finally:
        observer.allow(STEPS)


def test_a_node_lost_in_mid_epoch_and_back_again_changes_nothing(
    tmp_path: Path, config: TrainConfig, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "3")
    monkeypatch.setattr(scaling, "RESIZE_INTERVAL_S", 1.0)
    observer = Observer(tmp_path / "notes")
    observer.allow(LOST_AT)
    monkeypatch.setattr(job, "work", observer.watch(job.work))
    with ThreadPoolExecutor() as pool:
        # Nodes are started by the main thread, since Ray sets a signal handler there.
        training = pool.submit(train, config)
        lose_a_node_and_bring_it_back(cluster, observer, training)
        result = training.result()

    steps = surviving(observer.notes(), STEPS)
    assert [workers for workers, _ in groupby(len(notes) for notes in steps)] == [2, 1, 2]
    assert len(observer.notes()) > sum(map(len, steps))  # work that was lost was done again

    check_each_sample_once_an_epoch(config, steps)

    weights, losses = undisturbed(config)
    found = load_file(f"{result.model}/{WEIGHTS}")
    for name, expected in weights.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)

    client = MlflowClient(tracking_uri=config.tracking.uri)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert (run.info.run_id, run.info.status) == (result.run_id, "FINISHED")
    history = client.get_metric_history(result.run_id, "loss")
    assert [point.step for point in history] == list(range(STEPS))
    np.testing.assert_allclose([point.value for point in history], losses, rtol=1e-5)
    workers = client.get_metric_history(result.run_id, "workers")
    assert [value for value, _ in groupby(point.value for point in workers)] == [2, 1, 2]
