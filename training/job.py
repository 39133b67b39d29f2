"""The driver of a training run: starts the Ray Train workers and publishes the model."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    ControllerError,
    FailureConfig,
    RunConfig,
    TrainingFailedError,
)
from ray.train.torch import TorchTrainer

from ucn.cluster.session import ray_session
from ucn.errors import UserError
from ucn.storage.files import as_user_error
from ucn.storage.lock import Lock, folder_lock
from ucn.training.config import TrainConfig
from ucn.training.data.inputs import (
    absolute_paths,
    dataset_links,
    input_digests,
    open_datasets,
    training_sampler,
)
from ucn.training.device import cluster_cuda_error
from ucn.training.loop.checkpoint import load_checkpoint
from ucn.training.loop.checkpoint_record import mend_record, sweep_unfinished
from ucn.training.loop.loop import CPU, best_weights
from ucn.training.loop.state import Metrics, initial_state
from ucn.training.model import WEIGHTS, load_model, model_digests, save_model
from ucn.training.progress import Messages, progress_line
from ucn.training.run_state import (
    CHECKPOINTS,
    MODEL,
    RunState,
    fingerprints,
    open_run_state,
    read_run_state,
    write_run_state,
)
from ucn.training.scaling import scaling
from ucn.training.tracking import DatasetLink, ModelLink, RunLog, Tracker
from ucn.training.worker import work

CHECKPOINTS_KEPT = 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """Result of a training run.

    Attributes:
        model: the model folder.
        run_id: in MLflow; None without tracking.
        metrics: of the last step, and the validation scores of the published weights.
    """

    model: Path
    run_id: str | None
    metrics: Metrics


def train(config: TrainConfig) -> TrainResult:
    """Train a network and publish it as ``output/model``.

    A rerun into the same output folder returns at once if the training is finished. Otherwise it
    resumes from the last checkpoint.

    Raises:
        UserError: the data or the output folder do not fit the configuration, another driver
            trains into the folder, or the loss is not finite.
    """
    config = absolute_paths(config)
    training, validation = open_datasets(config)
    digests = input_digests(config, training, validation)
    # The workers check this too; here it fails before Ray starts.
    training_sampler(config, training)
    pretraining = initial_state(config, CPU).network.pretraining
    wanted = fingerprints(config, digests)
    stored = read_run_state(config.output)
    if stored is not None and stored.fingerprint in wanted and stored.status == "FINISHED":
        return _finished(config, stored)
    with folder_lock(config.output) as lock:
        state = open_run_state(config.output, wanted, overwrite=config.overwrite)
        if state.status == "FINISHED":
            return _finished(config, state)
        if pretraining and config.network.weights is None:
            logger.warning("network.weights: not given; training starts without %s", pretraining)
        return _run(config, state, lock, dataset_links(training, validation), training.digest)


def _finished(config: TrainConfig, state: RunState) -> TrainResult:
    model = load_model(config.output / MODEL)
    return TrainResult(config.output / MODEL, state.run_id, dict(model.config.scores))


def _run(
    config: TrainConfig,
    run_state: RunState,
    lock: Lock,
    datasets: list[DatasetLink],
    training_data: str,
) -> TrainResult:
    """Train the steps that are left and publish the model; the driver holds the lease."""
    fingerprint = run_state.fingerprint
    with Tracker(config.output, config.tracking) as tracker:
        run = tracker.start(
            f"train · {config.network.name}, {config.loss.name}, {config.steps} steps",
            fingerprint,
            params=config.model_dump(mode="json", exclude={"tracking", "overwrite"}),
            tags={"stage": "training"},
            datasets=datasets,
        )
        write_run_state(config.output, RunState(fingerprint, "RUNNING"))
        try:
            with ray_session():
                checkpoint = _train_with_ray(config, fingerprint, run)
                lock.check()
                sweep_unfinished(config.output)
                with checkpoint.as_directory() as folder:
                    metrics = _publish(config, Path(folder), training_data)
        except BaseException:
            run.set_status("FAILED")
            raise
        _log_model(config, run, metrics, datasets)
        run.set_status("FINISHED")
        write_run_state(config.output, RunState(fingerprint, "FINISHED", tracker.run_id(run)))
    return TrainResult(config.output / MODEL, tracker.run_id(run), metrics)


def _log_model(
    config: TrainConfig, run: RunLog, metrics: Metrics, datasets: list[DatasetLink]
) -> None:
    """Log the published model, with its validation scores under the names of an evaluation."""
    folder = config.output / MODEL
    tags = {name: f"{value:.6g}" for name, value in metrics.items()}
    tags |= {f"manifest_sha256.{one.name}": one.digest for one in datasets}
    model = ModelLink(
        MODEL, model_digests(folder)[WEIGHTS], str(folder), tags, config.tracking.model_name
    )
    run.log_model(model, folder, step=config.steps)
    prefix = "validation/"
    scores = {n.removeprefix(prefix): v for n, v in metrics.items() if n.startswith(prefix)}
    # Step 0, as in evaluations: MLflow draws metrics of other steps as curves.
    run.log_metrics(scores, 0, model, datasets[-1])


def _train_with_ray(config: TrainConfig, fingerprint: str, run: RunLog) -> Checkpoint:
    """Run the workers and return the last checkpoint."""
    _configure_ray_train()
    # First, since it may raise.
    workers = scaling(
        config,
        ray.cluster_resources(),  # type: ignore[no-untyped-call]
        nodes_may_come=bool(os.environ.get("RAY_ADDRESS")),
        gpu_error="" if config.device == "cpu" else cluster_cuda_error(),
    )
    # On the node of the driver: the run survives the loss of any other node.
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    messages: Any = ray.remote(num_cpus=0, label_selector=here)(Messages).remote()
    # Ray Train resumes a run of the same name.
    name = fingerprint[:16]
    folder = config.output / CHECKPOINTS / name
    resume = mend_record(folder)
    trainer = TorchTrainer(
        work,
        train_loop_config={
            "config": config,
            "run": run.id,
            "messages": messages,
            "folder": folder,
            "resume": resume,
        },
        scaling_config=workers,
        run_config=RunConfig(  # type: ignore[call-arg] # typed as that of version 1
            name=name,
            storage_path=str(config.output / CHECKPOINTS),
            checkpoint_config=CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT),
            failure_config=FailureConfig(max_failures=config.max_failures),
            # Waiting OpenMP threads must not spin: they would slow down the reader threads. OpenMP
            # reads this when the process starts.
            worker_runtime_env={"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}},
        ),
    )
    try:
        with progress_line(config.steps, lambda: ray.get(messages.get.remote())):
            result = trainer.fit()
    except TrainingFailedError as error:
        _raise_user_error(messages)
        if isinstance(error, ControllerError) and isinstance(error.controller_failure, OSError):
            # Ray Train writes files of its own beside the checkpoints.
            with as_user_error(config.output):
                raise error.controller_failure from None
        raise
    _raise_user_error(messages)
    assert result.checkpoint is not None, "the last step ends with a checkpoint"
    checkpoint: Checkpoint = result.checkpoint
    return checkpoint


def _raise_user_error(messages: Any) -> None:
    message = ray.get(messages.user_error.remote())
    if message is not None:
        raise UserError(message)


def _publish(config: TrainConfig, folder: Path, training_data: str) -> Metrics:
    """Write the model folder from a checkpoint; return the metrics."""
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
    """Make Ray Train notice checkpoints and failures early, and keep it from printing."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "15")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
