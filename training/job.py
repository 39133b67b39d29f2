"""The driver of a training run: starts the Ray Train workers and publishes the model."""

import logging
import os
import uuid
from dataclasses import dataclass
from typing import Any

import ray
from ray.train import (
    CheckpointConfig,
    ControllerError,
    FailureConfig,
    RunConfig,
    TrainingFailedError,
)
from ray.train.torch import TorchTrainer

from ucn.cluster.cpus import WORKER_ENVIRONMENT
from ucn.cluster.session import ray_session
from ucn.errors import UserError
from ucn.notice import notice
from ucn.storage.arrow import filesystem, storage_errors
from ucn.storage.lock import Lock, folder_lock
from ucn.storage.stores import open_store
from ucn.training.config import TrainConfig
from ucn.training.data.inputs import (
    absolute_paths,
    dataset_links,
    input_digests,
    open_datasets,
    training_sampler,
)
from ucn.training.device import cluster_cuda_error
from ucn.training.loop.checkpoint import KEPT, load_checkpoint, newest_checkpoint
from ucn.training.loop.loop import CPU, best_weights
from ucn.training.loop.state import Metrics, initial_network, initial_state
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
from ucn.training.tracking import (
    TRACKING,
    DatasetLink,
    ModelLink,
    RunLog,
    Tracker,
    local_folder,
    pull,
)
from ucn.training.worker import work

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """Result of a training run.

    Attributes:
        model: folder or URI of the model.
        run_id: in MLflow; None without tracking.
        metrics: of the last step, and the validation scores of the published weights.
    """

    model: str
    run_id: str | None
    metrics: Metrics


def train(config: TrainConfig) -> TrainResult:
    """Train a network and publish it as ``output/model``.

    A rerun into the same output returns at once if the training is finished. Otherwise it
    resumes from the last checkpoint.

    Raises:
        UserError: the data or the output folder do not fit the configuration, another driver
            trains into the folder, or the loss is not finite.
    """
    config = absolute_paths(config)
    with notice("opening the shards"):
        training, validation = open_datasets(config)
        digests = input_digests(config, training, validation)
        # The workers check this too; here it fails before Ray starts.
        training_sampler(config, training)
        pretraining = initial_network(config).pretraining
    wanted = fingerprints(config, digests)
    stored = read_run_state(config.output)
    if stored is not None and stored.fingerprint in wanted and stored.status == "FINISHED":
        return _finished(config, stored)
    with folder_lock(config.output) as lock:
        open_store(config.output).prepare()
        state = open_run_state(config.output, wanted, overwrite=config.overwrite)
        if state.status == "FINISHED":
            return _finished(config, state)
        if pretraining and config.network.weights is None:
            logger.warning("network.weights: not given; training starts without %s", pretraining)
        return _run(config, state, lock, dataset_links(training, validation), training.digest)


def _finished(config: TrainConfig, state: RunState) -> TrainResult:
    folder = f"{config.output}/{MODEL}"
    return TrainResult(folder, state.run_id, dict(load_model(folder).config.scores))


def _run(
    config: TrainConfig,
    run_state: RunState,
    lock: Lock,
    datasets: list[DatasetLink],
    training_data: str,
) -> TrainResult:
    """Train the steps that are left and publish the model; the driver holds the lock."""
    fingerprint = run_state.fingerprint
    checkpoints = f"{config.output}/{CHECKPOINTS}"
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
                lock.check()
                resume = newest_checkpoint(checkpoints, fingerprint[:16])
                # Ray Train would go on from its own record of a run of the same name.
                name = f"{fingerprint[:16]}-{uuid.uuid4().hex[:8]}"
                _train_with_ray(config, run, f"{checkpoints}/{name}", resume)
                lock.check()
                checkpoint = newest_checkpoint(checkpoints, fingerprint[:16])
                assert checkpoint is not None, "the last step ends with a checkpoint"
                metrics = _publish(config, checkpoint, training_data)
        except BaseException:
            run.set_status("FAILED")
            raise
        _log_model(config, run, metrics, datasets)
        run.set_status("FINISHED")
        write_run_state(config.output, RunState(fingerprint, "FINISHED", tracker.run_id(run)))
    return TrainResult(f"{config.output}/{MODEL}", tracker.run_id(run), metrics)


def _log_model(
    config: TrainConfig, run: RunLog, metrics: Metrics, datasets: list[DatasetLink]
) -> None:
    """Log the published model, with its validation scores under the names of an evaluation."""
    if not run.is_active:
        return
    folder = pull(config.output) / MODEL
    tags = {name: f"{value:.6g}" for name, value in metrics.items()}
    tags |= {f"manifest_sha256.{one.name}": one.digest for one in datasets}
    place, sha256 = f"{config.output}/{MODEL}", model_digests(folder)[WEIGHTS]
    model = ModelLink(MODEL, sha256, place, tags, config.tracking.model_name)
    run.log_model(model, folder, step=config.steps)
    prefix = "validation/"
    scores = {n.removeprefix(prefix): v for n, v in metrics.items() if n.startswith(prefix)}
    # Step 0, as in evaluations: MLflow draws metrics of other steps as curves.
    run.log_metrics(scores, 0, model, datasets[-1])


def _train_with_ray(config: TrainConfig, run: RunLog, folder: str, resume: str | None) -> None:
    """Run the workers.

    Args:
        run: log of the run.
        folder: for the checkpoints and Ray Train's own files.
        resume: checkpoint to go on from.
    """
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
    messages: Any = ray.remote(num_cpus=0, label_selector=here)(Messages).remote(
        local_folder(config.output) / TRACKING if run.is_active else None, run.id
    )
    system, path = filesystem(folder)
    storage_path, _, name = path.rpartition("/")
    trainer = TorchTrainer(
        work,
        train_loop_config={
            "config": config,
            "messages": messages,
            "folder": folder,
            "storage": (system, path),
            "resume": resume,
        },
        scaling_config=workers,
        run_config=RunConfig(  # type: ignore[call-arg] # typed as that of version 1
            name=name,
            storage_path=storage_path,
            storage_filesystem=system,
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT),
            failure_config=FailureConfig(max_failures=config.max_failures),
            worker_runtime_env={"env_vars": WORKER_ENVIRONMENT},
        ),
    )
    # Ray Train writes files of its own beside the checkpoints.
    with storage_errors(config.output):
        try:
            with progress_line(config.steps, lambda: ray.get(messages.get.remote())):
                trainer.fit()
        except TrainingFailedError as error:
            _raise_user_error(messages)
            if isinstance(error, ControllerError) and isinstance(error.controller_failure, OSError):
                raise error.controller_failure from None
            raise
    _raise_user_error(messages)


def _raise_user_error(messages: Any) -> None:
    message = ray.get(messages.user_error.remote())
    if message is not None:
        raise UserError(message)


def _publish(config: TrainConfig, checkpoint: str, training_data: str) -> Metrics:
    """Write the model folder from a checkpoint; return the metrics."""
    state = initial_state(config, CPU)
    state.restore(load_checkpoint(checkpoint))
    weights, metrics = best_weights(state)
    state.network.load_state_dict(weights)
    save_model(
        f"{config.output}/{MODEL}",
        state.network,
        config.network,
        training_data=training_data,
        training=config.model_dump(mode="json", exclude={"tracking", "output", "overwrite"}),
        scores=metrics,
    )
    return metrics


def _configure_ray_train() -> None:
    """Make Ray Train notice checkpoints and failures early, and keep it from printing.

    Its watcher of preemptions is a process on each start, and nothing here asks it.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "15")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
