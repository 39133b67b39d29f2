"""The training loop of one worker: plain functions, with or without Ray around them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from preprocessing.errors import UserError
from training.checkpoint import Progress, load_checkpoint, save_checkpoint
from training.config import TrainConfig
from training.data import Item, PairDataset, training_batches
from training.networks import build_network
from training.networks.base import DenseNetwork
from training.optimise import build_optimiser, learning_rate, set_learning_rate
from training.sampler import Sampler
from training.step import BatchLoss, batch_loss
from training.validate import validation_pck

CPU = torch.device("cpu")
WriteState = Callable[[Path], None]


@dataclass(frozen=True)
class Worker:
    """One worker among all, and how it speaks to the outside.

    Attributes:
        log: takes the metrics of a step; called by rank 0 only.
        checkpoint: takes the number of steps done and a function that writes the state into a
            folder; called by all ranks at the same steps.
        wrap: makes a network fit for distributed training.
    """

    log: Callable[[int, dict[str, float]], None]
    checkpoint: Callable[[int, WriteState], None]
    wrap: Callable[[DenseNetwork], nn.Module] = lambda network: network
    rank: int = 0
    world_size: int = 1
    device: torch.device = CPU


def fit(
    config: TrainConfig,
    training: PairDataset,
    validation: PairDataset | None,
    worker: Worker,
    resume: Path | None = None,
) -> DenseNetwork:
    """Train from the start, or from the checkpoint in ``resume`` with its next global batch.

    Returns:
        the network as trained, in evaluation mode.

    Raises:
        UserError: the configuration does not fit the data, the checkpoint does not fit the
            configuration, or the loss is no longer finite.
    """
    sampler = Sampler(len(training), config.batch_size, config.seed, worker.rank, worker.world_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(config.network.name, config.network.options)
    network = network.to(worker.device)
    optimiser = build_optimiser(network, config.optimiser)
    progress = Progress(0, config.seed, {})
    if resume is not None:
        progress = load_checkpoint(resume, network, optimiser)
    wrapped = worker.wrap(network).train()
    batches = training_batches(training, sampler, network.channels, config, progress.step)
    clock = time.perf_counter()
    for step, items in enumerate(batches, start=progress.step):
        metrics = train_step(wrapped, network, optimiser, items, step, config)
        done = step + 1
        ends = done == config.steps
        if worker.rank == 0:
            if validation is not None and (done % config.validate_every == 0 or ends):
                scores = validation_pck(
                    network,
                    validation,
                    config.data,
                    bfloat16=config.bfloat16,
                    memory_mib=config.mining.memory_mib,
                )
                metrics |= {f"validation/{name}": value for name, value in scores.items()}
            now = time.perf_counter()
            metrics["pairs_per_second"] = config.batch_size / (now - clock)
            clock = now
            worker.log(step, metrics)
            progress = replace(progress, metrics=progress.metrics | metrics)
        if done % config.checkpoint_every == 0 or ends:
            progress = replace(progress, step=done)
            worker.checkpoint(done, _state_writer(network, optimiser, progress))
    network.eval()
    return network


def train_step(
    wrapped: nn.Module,
    network: DenseNetwork,
    optimiser: torch.optim.Optimizer,
    items: Sequence[Item],
    step: int,
    config: TrainConfig,
) -> dict[str, float]:
    """Do one optimiser step.

    Returns:
        ``loss``, ``hit_ratio``, ``gradient_norm`` (before clipping) and ``learning_rate``, means
        over all workers.

    Raises:
        UserError: the loss or its gradient is not finite; names the pairs.
    """
    rate = learning_rate(step, config.steps, config.optimiser.learning_rate, config.schedule)
    set_learning_rate(optimiser, rate)
    optimiser.zero_grad(set_to_none=True)
    outcome = batch_loss(wrapped, network, items, config)
    torch.autograd.backward(outcome.loss)
    norm = nn.utils.clip_grad_norm_(network.parameters(), config.optimiser.clip_norm)
    summary = torch.stack([outcome.loss.detach(), outcome.hit_ratio])
    if dist.is_initialized():
        dist.all_reduce(summary)
        summary /= dist.get_world_size()
    # Gradients are shared, so that all workers stop here in the same step.
    if not bool(torch.isfinite(norm) & torch.isfinite(summary[0])):
        raise UserError(_not_finite(step, items, outcome))
    optimiser.step()
    loss, hit_ratio = summary.tolist()
    return {
        "loss": loss,
        "hit_ratio": hit_ratio,
        "gradient_norm": float(norm),
        "learning_rate": rate,
    }


def _not_finite(step: int, items: Sequence[Item], outcome: BatchLoss) -> str:
    guilty = [
        item.key
        for item, finite in zip(items, outcome.per_pair_B.isfinite().tolist(), strict=True)
        if not finite
    ]
    keys = ", ".join(guilty or [item.key for item in items])
    return (
        f"optimiser.learning_rate: the loss or its gradient is not finite in step {step}, pairs "
        f"{keys}; look at them with `ucn inspect`, or lower optimiser.learning_rate"
    )


def _state_writer(
    network: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
) -> WriteState:
    return lambda folder: save_checkpoint(folder, network, optimiser, progress)
