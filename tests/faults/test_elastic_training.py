"""A node dies in mid-epoch and comes back: training shrinks, goes on and grows; nothing is lost.

Nodes are raylets of this machine with a CPU each, beside a head that has none. What is counted is
what the optimiser's steps were given; of a step that was taken again after a loss, the last time.
"""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import torch
from ray._private import ray_constants
from ray.cluster_utils import Cluster

from preprocessing.cluster import ray_session
from preprocessing.sample import Sample
from preprocessing.shards.write import write_manifest, write_shard
from preprocessing.storage import write_json
from preprocessing.stores.open import open_store
from training import job, scaling
from training.config import TrainConfig
from training.inputs import open_datasets, training_sampler
from training.job import TrainResult, train
from training.loop import Worker, fit
from training.model import load_model
from training.state import Metrics

# As the workers have: sums inside a convolution depend on the threads.
pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("one_thread"),
]

SAMPLES, EPOCH, EPOCHS = 60, 15, 6
STEPS = EPOCH * EPOCHS
CHECKPOINT_EVERY = 3
LOST_AT = EPOCH + 8
"""Steps done when the node is lost: in the middle of an epoch, and between two checkpoints."""
NODE = {"object_store_memory": 80 * 2**20}
NOTICE_SOON = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
}
"""Ray takes a node that does not answer for dead after 1.5 s instead of 15."""


@dataclass(frozen=True)
class Note:
    """A worker has done its part of a step."""

    time: float
    step: int
    workers: int
    rank: int
    pid: int
    keys: list[str]


class Observer:
    """Takes notes of what steps are given, and holds the workers at steps not allowed yet.

    Args:
        folder: where all nodes write and read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def allow(self, steps: int) -> None:
        write_json(self.folder / "allowed.json", steps)

    def notes(self) -> list[Note]:
        """All notes, in the order of time."""
        lines = [line for path in self.folder.glob("*.txt") for line in path.open()]
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        return sorted((Note(**values) for values in whole), key=lambda note: note.time)

    def find(self, workers: int, step: int = 0, since: float = 0.0) -> list[Note]:
        """One note of each of so many workers, at or after a step and a time; none if one lacks."""
        found = {
            note.rank: note
            for note in self.notes()
            if note.workers == workers and note.step >= step and note.time >= since
        }
        return [found[rank] for rank in range(workers)] if len(found) == workers else []

    def wait_for(self, workers: int, step: int, since: float = 0.0) -> list[Note]:
        deadline = time.monotonic() + 120
        while not (found := self.find(workers, step, since)):
            assert time.monotonic() < deadline, f"{workers} workers do not get to step {step}"
            time.sleep(0.1)
        return found

    def watch(self, work: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
        """Observe the workers' function. The result travels whole: nodes do not have this file."""
        folder = self.folder

        def watched(options: dict[str, Any]) -> None:
            from ray.train import get_context

            from training.step import Stepper

            context, take_step = get_context(), Stepper.step
            who = {
                "workers": context.get_world_size(),
                "rank": context.get_world_rank(),
                "pid": os.getpid(),
            }

            def step(self: Stepper, number: int, groups: Any) -> Metrics:
                while number >= json.loads((folder / "allowed.json").read_text()):
                    time.sleep(0.02)
                metrics = take_step(self, number, groups)
                keys = [item.key for group in groups for item in group]
                note = {"time": time.time(), "step": number, "keys": keys} | who
                with (folder / f"{os.getpid()}.txt").open("a") as file:
                    file.write(json.dumps(note) + "\n")
                return metrics

            Stepper.step = step  # type: ignore[method-assign]
            work(options)

        return watched


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


def moved_pairs() -> Iterator[Sample]:
    """Noise, and the same noise moved by whole pixels."""
    rng = np.random.default_rng(3)
    x, y = np.meshgrid(np.arange(10, 86, 3), np.arange(10, 70, 3))
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    for index in range(SAMPLES):
        noise = cv2.resize(rng.random((30, 36), dtype=np.float32), (116, 100))
        noise = (noise * 180 + 60 * rng.random(noise.shape)).astype(np.uint8)
        dx, dy = rng.integers(0, 11, 2)
        image0 = np.ascontiguousarray(noise[10:90, 10:106])
        image1 = np.ascontiguousarray(noise[dy : dy + 80, dx : dx + 96])
        matches = np.concatenate([points, points + np.array([10 - dx, 10 - dy])], axis=1)
        inside = (matches[:, 2] < 96) & (matches[:, 3] < 80)
        metadata = {"sequence": "noise", "frame0": 2 * index, "frame1": 2 * index + 1}
        yield Sample(
            f"pair-{index:04d}", image0, image1, matches[inside].astype(np.float32), metadata
        )


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    store = open_store(tmp_path / "shards")
    shard = write_shard(store, "train-000000.tar", moved_pairs(), "grey-png", "configuration", "f")
    write_manifest(store, [shard], {})
    return TrainConfig.model_validate(
        {
            "data": {"shards": str(tmp_path / "shards"), "cache_gib": 0},
            "network": {"name": "small", "options": {"width": 16, "dimension": 16}},
            "augmentation": {"crop_width": 48, "crop_height": 48, "shift": 4},
            "mining": {"radius": 6.0},
            "schedule": {"warmup_steps": 1},
            "tracking": {"uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
            "output": tmp_path / "run",
            "steps": STEPS,
            "batch_size": SAMPLES // EPOCH,
            "points": 64,
            "checkpoint_every": CHECKPOINT_EVERY,
            "bfloat16": False,
            "threads": 1,
            "workers": 2,
            "min_workers": 1,
            "device": "cpu",
        }
    )


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
        # A checkpoint every two seconds, until Ray knows of the node: it looks every 20 s.
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


def surviving(notes: list[Note]) -> list[list[Note]]:
    """For each step the notes of those workers whose work is in the final weights."""
    found = []
    for step in range(STEPS):
        of_step = [note for note in notes if note.step == step]
        last = {n.rank: n for n in of_step if n.workers == of_step[-1].workers}
        assert sorted(last) == list(range(of_step[-1].workers)), f"step {step}"
        found.append([last[rank] for rank in sorted(last)])
    return found


def undisturbed(config: TrainConfig) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Weights, running statistics among them, and losses of one worker alone."""
    losses: list[float] = []
    training, _ = open_datasets(config)
    worker = Worker(lambda _, metrics: losses.append(metrics["loss"]), lambda step, write: None)
    state = fit(config, training, None, worker, training_sampler(config, training))
    weights = state.network.state_dict()
    return {name: one for name, one in weights.items() if one.is_floating_point()}, losses


def test_a_node_lost_in_mid_epoch_and_back_again_changes_nothing(
    tmp_path: Path, config: TrainConfig, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "3")
    monkeypatch.setattr(scaling, "GROW_INTERVAL_S", 1.0)
    observer = Observer(tmp_path / "notes")
    observer.allow(LOST_AT)
    monkeypatch.setattr(job, "work", observer.watch(job.work))
    with ThreadPoolExecutor() as pool:
        # Nodes are started by the main thread, since Ray sets a signal handler there.
        training = pool.submit(train, config)
        lose_a_node_and_bring_it_back(cluster, observer, training)
        result = training.result()

    steps = surviving(observer.notes())
    assert [workers for workers, _ in groupby(len(notes) for notes in steps)] == [2, 1, 2]
    assert len(observer.notes()) > sum(map(len, steps))  # work that was lost was done again

    data, _ = open_datasets(config)
    sampler = training_sampler(config, data)
    given = [[key for note in notes for key in note.keys] for notes in steps]
    for step, keys in enumerate(given):
        planned = [data[draw.sample].key for draw in sampler.batch(step)]
        assert sorted(keys) == sorted(planned), f"step {step}"
    for epoch in range(EPOCHS):
        count = Counter(key for keys in given[epoch * EPOCH :][:EPOCH] for key in keys)
        assert len(count) == SAMPLES, f"epoch {epoch}"
        assert set(count.values()) == {1}, f"epoch {epoch}"

    weights, losses = undisturbed(config)
    found = load_model(result.model).network.state_dict()
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
