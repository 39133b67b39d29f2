"""The function that each Ray Train worker runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import cv2
import ray
import torch
from ray.train import Checkpoint, CheckpointUploadMode, get_checkpoint, get_context, report
from ray.train.torch import get_device
from torch import nn

from ucn.cluster.cpus import worker_cpus
from ucn.errors import UserError
from ucn.training.config import TrainConfig
from ucn.training.data.inputs import open_datasets, training_sampler
from ucn.training.loop.checkpoint import checkpoint_name
from ucn.training.loop.gradients import distributed
from ucn.training.loop.loop import Worker, WriteState, fit
from ucn.training.loop.state import Metrics
from ucn.training.loop.validate import MatchedPair
from ucn.training.tracking import system_metrics
from ucn.training.tracking.pictures import match_picture


def work(options: dict[str, Any]) -> None:
    """Train as one worker.

    Args:
        options: ``config``; ``messages``, an actor of `Messages`; ``folder``, path or URI of this
            start's checkpoints; ``storage``, the same as pyarrow's file system and the path in it;
            ``resume``, the checkpoint of an earlier start, or None.
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

    def log_again(step: int, metrics: Metrics) -> None:
        if is_logged:
            messages.log.remote(metrics, step)

    with (
        _reporting_user_errors(messages),
        system_metrics(messages.log.remote if is_logged else None),
    ):
        worker = Worker(
            messages.put.remote,
            partial(_checkpoint, options),
            log_again,
            partial(_show, messages) if is_logged else lambda step, pair: None,
            _distribute,
            rank,
            world_size,
            _device(config),
        )
        training, validation = open_datasets(config)
        sampler = training_sampler(config, training)
        last = get_checkpoint()
        # Ray Train keeps the path in a file system; our stores are opened by the URI.
        resume = f"{options['folder']}/{PurePosixPath(last.path).name}" if last else None
        fit(config, training, validation, worker, sampler, resume or options["resume"])
    # What was sent before has arrived when this is answered.
    ray.get(messages.get.remote())


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


def _show(messages: Any, step: int, pair: MatchedPair) -> None:
    picture = match_picture(
        pair.sample.image0,
        pair.sample.image1,
        pair.points0_N2,
        pair.found_N2,
        pair.truth_N2,
        f"{pair.sample.key}, step {step}",
    )
    messages.log_picture.remote(f"validation/step-{step:06d}", f"{pair.sample.key}.jpg", picture)


def _distribute(network: nn.Module) -> nn.Module:
    if get_context().get_world_size() == 1:
        return network
    return distributed(network)


def _checkpoint(options: dict[str, Any], step: int, write: WriteState) -> None:
    """Report a checkpoint to Ray Train, which rank 0 writes in the background.

    All workers must call this at the same steps. The last checkpoint is written before this
    returns. Errors of the thread that writes, such as a full disk, are reported as others.

    Args:
        options: as in `work`.
    """
    if get_context().get_world_rank() != 0:
        report({"step": step})
        return

    system, path = options["storage"]
    checkpoint = Checkpoint(f"{path}/{checkpoint_name(step)}", system)

    def publish(_: Checkpoint, name: str) -> Checkpoint:
        with _reporting_user_errors(options["messages"]):
            write(f"{options['folder']}/{checkpoint_name(step)}")
        return checkpoint

    ends = step == options["config"].steps
    mode = CheckpointUploadMode.SYNC if ends else CheckpointUploadMode.ASYNC
    report(
        {"step": step},
        checkpoint=checkpoint,
        checkpoint_upload_mode=mode,
        checkpoint_upload_fn=publish,
        delete_local_checkpoint_after_upload=False,
    )
