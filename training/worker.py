"""The function that each Ray Train worker runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import ray
import torch
from ray.train import Checkpoint, CheckpointUploadMode, get_checkpoint, get_context, report
from ray.train.torch import get_device
from torch import nn

from ucn.cluster.cpus import worker_cpus
from ucn.errors import UserError
from ucn.images.draw import write_picture
from ucn.training.config import TrainConfig
from ucn.training.data.inputs import open_datasets, training_sampler
from ucn.training.loop.gradients import distributed
from ucn.training.loop.loop import Worker, WriteState, fit
from ucn.training.loop.state import Metrics
from ucn.training.loop.validate import MatchedPair
from ucn.training.tracking import TRACKING, RunLog, system_metrics
from ucn.training.tracking.pictures import match_picture


def work(options: dict[str, Any]) -> None:
    """Train as one worker.

    Args:
        options: ``config``; ``run``, its id in the log; ``messages``, an actor of `Messages`;
            ``folder`` of the checkpoints; and ``resume``, a checkpoint to start from that Ray Train
            has no record of, or None.
    """
    config: TrainConfig = options["config"]
    messages = options["messages"]
    if ray.get(messages.user_error.remote()) is not None:
        # Ray Train restarts the workers after any error, but this one would repeat.
        return
    context = get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(config.threads or worker_cpus())
    cv2.setNumThreads(1)
    is_logged = rank == 0 and config.tracking.enabled
    run = RunLog(config.output / TRACKING if is_logged else None, options["run"])
    with system_metrics(run):

        def log_again(step: int, metrics: Metrics) -> None:
            run.log_metrics(metrics, step)

        def log(step: int, metrics: Metrics) -> None:
            log_again(step, metrics)
            messages.put.remote(step, metrics)

        with _reporting_user_errors(messages):
            worker = Worker(
                log,
                partial(_checkpoint, config.steps, options["folder"], messages),
                log_again,
                partial(_show, run),
                _distribute,
                rank,
                world_size,
                _device(config),
            )
            training, validation = open_datasets(config)
            sampler = training_sampler(config, training)
            with _last_checkpoint(options["resume"]) as resume:
                fit(config, training, validation, worker, sampler, resume)


@contextmanager
def _reporting_user_errors(messages: Any) -> Iterator[None]:
    """Report a `UserError` to the driver; Ray Train does not tell it from other errors."""
    try:
        yield
    except UserError as error:
        ray.get(messages.report_user_error.remote(str(error)))
        raise


def _device(config: TrainConfig) -> torch.device:
    device = get_device()
    if config.device == "cuda" and device.type != "cuda":
        raise UserError(
            "device: cuda, but PyTorch sees no GPU in a worker that has one; install PyTorch for "
            "CUDA there (infra/README.md), or set device to cpu"
        )
    return device


def _show(run: RunLog, step: int, pair: MatchedPair) -> None:
    if run.is_active:
        picture = match_picture(
            pair.sample.image0,
            pair.sample.image1,
            pair.points0_N2,
            pair.found_N2,
            pair.truth_N2,
            f"{pair.sample.key}, step {step}",
        )
        folder = f"validation/step-{step:06d}"
        path = run.file(f"{folder}/{pair.sample.key}.jpg")
        write_picture(path, picture)
        run.log_artifact(path, folder)


def _distribute(network: nn.Module) -> nn.Module:
    if get_context().get_world_size() == 1:
        return network
    return distributed(network)


def _checkpoint(steps: int, folder: Path, messages: Any, step: int, write: WriteState) -> None:
    """Report a checkpoint to Ray Train, which rank 0 writes in the background.

    All workers must call this at the same steps.

    Args:
        steps: of the whole run; the last checkpoint is written before this returns.
        folder: of the run's checkpoints.
        messages: as in `work`; takes errors of the thread that writes, such as a full disk.
    """
    if get_context().get_world_rank() != 0:
        report({"step": step})
        return

    def publish(_: Checkpoint, name: str) -> Checkpoint:
        with _reporting_user_errors(messages):
            write(folder / name)
        return Checkpoint(folder / name)

    mode = CheckpointUploadMode.SYNC if step == steps else CheckpointUploadMode.ASYNC
    report(
        {"step": step},
        checkpoint=Checkpoint(folder),
        checkpoint_upload_mode=mode,
        checkpoint_upload_fn=publish,
        delete_local_checkpoint_after_upload=False,
    )


@contextmanager
def _last_checkpoint(first: Path | None) -> Iterator[Path | None]:
    """The last checkpoint that Ray Train has; ``first`` before it has one."""
    checkpoint = get_checkpoint()
    if checkpoint is None:
        yield first
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)
