"""Shards -> model with Ray Train: the one place of this room that knows Ray."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import ray
import torch
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    CheckpointUploadMode,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    get_checkpoint,
    get_context,
    report,
)
from ray.train.torch import TorchTrainer, get_device
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from preprocessing.cluster import ray_session
from preprocessing.errors import UserError
from training.checkpoint import load_checkpoint
from training.config import TrainConfig
from training.inputs import (
    absolute_paths,
    dataset_links,
    input_digests,
    open_datasets,
    training_sampler,
)
from training.loop import CPU, Worker, WriteState, best_weights, fit
from training.model import load_model, save_model
from training.networks.base import DenseNetwork
from training.progress import ProgressLine
from training.record import CHECKPOINTS, MODEL, RunRecord, open_record, write_record
from training.state import initial_state
from training.tracking import RunLogger, last_logged_step, start_run

CHECKPOINTS_KEPT = 2
POLL_S = 0.5


@dataclass(frozen=True)
class TrainResult:
    """What a training run leaves.

    Attributes:
        model: the model folder.
        run_id: in MLflow; None without tracking.
        metrics: of the last step, and the last validation scores.
    """

    model: Path
    run_id: str | None
    metrics: dict[str, float]


class Messages:
    """Carries the metrics of the last step, and what the user must mend, to the driver."""

    def __init__(self) -> None:
        self._step = -1
        self._metrics: dict[str, float] = {}
        self._first_mistake: str | None = None

    def put(self, step: int, metrics: dict[str, float]) -> None:
        """Keep the metrics of a step beside the latest of those that come more seldom."""
        self._step, self._metrics = step, self._metrics | metrics

    def get(self) -> tuple[int, dict[str, float]]:
        """Read the last step, -1 before the first, and the metrics."""
        return self._step, self._metrics

    def put_mistake(self, message: str) -> None:
        """Keep the first message of a user's error."""
        self._first_mistake = self._first_mistake or message

    def mistake(self) -> str | None:
        """Read the message of a user's error."""
        return self._first_mistake


def train(config: TrainConfig) -> TrainResult:
    """Train a network and publish it as ``output/model``.

    A rerun into the same output folder returns at once if the model is there, and otherwise goes
    on from the last checkpoint.

    Raises:
        UserError: the data or the output folder do not fit the configuration, or the loss is no
            longer finite.
    """
    config = absolute_paths(config)
    training, validation = open_datasets(config)
    digests = input_digests(config, training, validation)
    # Checked here as well as in the workers, so that a mistake shows before Ray is up.
    training_sampler(config, training)
    initial_state(config, CPU)
    record = open_record(config.output, config.fingerprint(*digests), overwrite=config.overwrite)
    if record.status == "FINISHED":
        model = load_model(config.output / MODEL)
        return TrainResult(config.output / MODEL, record.run_id, dict(model.config.scores))
    run_id = record.run_id or start_run(
        config.tracking,
        name="train",
        params=config.model_dump(mode="json", exclude={"tracking", "overwrite"}),
        tags={"stage": "training"},
        datasets=dataset_links(training, validation),
    )
    record = RunRecord(record.fingerprint, "RUNNING", run_id)
    write_record(config.output, record)
    run = RunLogger(config.tracking, run_id)
    run.restart()
    try:
        with ray_session():
            state = _train_with_ray(config, record)
            with state.as_directory() as folder:
                metrics = _publish(config, Path(folder), training.digest)
    except BaseException:
        run.finish("FAILED")
        raise
    write_record(config.output, RunRecord(record.fingerprint, "FINISHED", run_id))
    run.log_artifact(config.output / MODEL, MODEL)
    run.finish("FINISHED")
    return TrainResult(config.output / MODEL, run_id, metrics)


def _train_with_ray(config: TrainConfig, record: RunRecord) -> Checkpoint:
    """Run the workers; return the last checkpoint."""
    _configure_ray_train()
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if not os.environ.get("RAY_ADDRESS") and config.workers > resources.get("CPU", 0):
        raise UserError(
            f"workers: {config.workers}, but Ray has {resources.get('CPU', 0):g} CPUs; lower "
            "workers"
        )
    messages = ray.remote(num_cpus=0)(Messages).remote()
    trainer = TorchTrainer(
        _work,
        train_loop_config={"config": config, "run_id": record.run_id, "messages": messages},
        scaling_config=ScalingConfig(
            num_workers=config.workers, use_gpu=resources.get("GPU", 0) >= config.workers
        ),
        run_config=RunConfig(  # type: ignore[call-arg] # typed as that of version 1
            # Ray resumes what it finds under the same name.
            name=record.fingerprint[:16],
            storage_path=str(config.output / CHECKPOINTS),
            checkpoint_config=CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT),
            failure_config=FailureConfig(max_failures=config.max_failures),
            # Threads that spin while they wait slow each other down where CPUs are shared, be it
            # with the reader's threads alone. OpenMP reads this when the process starts.
            worker_runtime_env={"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}},
        ),
    )
    try:
        with _progress_line(config, messages):
            result = trainer.fit()
    except TrainingFailedError:
        _raise_mistake(messages)
        raise
    _raise_mistake(messages)
    assert result.checkpoint is not None, "the last step ends with a checkpoint"
    checkpoint: Checkpoint = result.checkpoint
    return checkpoint


def _work(options: dict[str, Any]) -> None:
    """What each worker does."""
    config: TrainConfig = options["config"]
    messages = options["messages"]
    if ray.get(messages.mistake.remote()) is not None:
        # Workers are started anew after any error, but this one would only come again.
        return
    context = get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    cpus = len(os.sched_getaffinity(0)) // context.get_local_world_size()
    torch.set_num_threads(config.threads or max(1, cpus))
    cv2.setNumThreads(1)
    tracking = config.tracking
    last_step = last_logged_step(tracking, options["run_id"], "loss") if rank == 0 else -1
    with RunLogger(tracking, options["run_id"] if rank == 0 else None, last_step) as run:

        def log(step: int, metrics: dict[str, float]) -> None:
            run.log_metrics(metrics, step)
            messages.put.remote(step, metrics)

        worker = Worker(
            log,
            partial(_checkpoint, config.steps),
            wrap=_distribute,
            rank=rank,
            world_size=world_size,
            device=get_device(),
        )
        try:
            training, validation = open_datasets(config)
            sampler = training_sampler(config, training)
            with _last_checkpoint() as resume:
                fit(config, training, validation, worker, sampler, resume)
        except UserError as error:
            ray.get(messages.put_mistake.remote(str(error)))
            raise


def _distribute(network: DenseNetwork) -> nn.Module:
    if get_context().get_world_size() == 1:
        return network
    # Running statistics are shared by `BatchStatistics`.
    return DistributedDataParallel(network, broadcast_buffers=False)


def _checkpoint(steps: int, step: int, write: WriteState) -> None:
    """Hand a checkpoint to Ray; all workers meet here, and go on while rank 0 writes it.

    Args:
        steps: of the whole run; the last checkpoint is waited for.
    """
    if get_context().get_world_rank() != 0:
        report({"step": step})
        return
    storage = Path(get_context().get_storage().experiment_fs_path)

    def publish(_: Checkpoint, name: str) -> Checkpoint:
        write(storage / name)
        return Checkpoint(storage / name)

    mode = CheckpointUploadMode.SYNC if step == steps else CheckpointUploadMode.ASYNC
    report(
        {"step": step},
        checkpoint=Checkpoint(storage),
        checkpoint_upload_mode=mode,
        checkpoint_upload_fn=publish,
        delete_local_checkpoint_after_upload=False,
    )


@contextmanager
def _last_checkpoint() -> Iterator[Path | None]:
    checkpoint = get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)


@contextmanager
def _progress_line(config: TrainConfig, messages: Any) -> Iterator[None]:
    """Show what the workers report, since what they print does not reach the terminal."""
    line = ProgressLine(config.steps)
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(POLL_S):
            line.update(*ray.get(messages.get.remote()))

    thread = threading.Thread(target=show, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        line.update(*ray.get(messages.get.remote()))
        line.close()


def _raise_mistake(messages: Any) -> None:
    mistake = ray.get(messages.mistake.remote())
    if mistake is not None:
        raise UserError(mistake)


def _publish(config: TrainConfig, folder: Path, training_data: str) -> dict[str, float]:
    """Make the model folder from the last checkpoint; return its metrics."""
    state = initial_state(config, CPU)
    state.restore(load_checkpoint(folder))
    weights, metrics = best_weights(state)
    state.network.load_state_dict(weights)
    save_model(
        config.output / MODEL,
        state.network,
        config.network,
        training_data=training_data,
        training=config.model_dump(mode="json", exclude={"tracking", "output", "overwrite"}),
        scores=metrics,
    )
    return metrics


def _configure_ray_train() -> None:
    """Make Ray Train notice checkpoints and deaths fast, and print nothing of its own."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "15")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
