"""The training loop of one worker: plain functions that do not need Ray."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ucn.training.config import TrainConfig
from ucn.training.data.loader import on_device, training_batches
from ucn.training.data.pairs import PairDataset, TrainingData
from ucn.training.data.sampler import Sampler
from ucn.training.loop.checkpoint import load_checkpoint, save_checkpoint, unusable
from ucn.training.loop.state import Best, Metrics, TrainState, initial_state
from ucn.training.loop.step import Outcome, Stepper, read
from ucn.training.loop.validate import MatchedPair, validate
from ucn.training.networks.compiled import compile_network

CPU = torch.device("cpu")
WriteState = Callable[[str | Path], None]
READ_EVERY = 8
"""Most steps whose metrics are read together, since reading waits for the device."""


@dataclass(frozen=True)
class Worker:
    """One of the workers, with its callbacks.

    Attributes:
        log: takes the metrics of a step; called by rank 0 only.
        checkpoint: takes the number of steps done, and a function that writes the current state
            into a folder, now or later, in any thread. Called by all ranks at the same steps.
        log_again: takes the metrics of the steps before the checkpoint that training resumes from,
            in case they were lost.
        show: takes the number of steps done and a matched validation pair. Called by rank 0 for the
            first `TrackingConfig.pictures` pairs.
        wrap: wraps the network for distributed training.
    """

    log: Callable[[int, Metrics], None]
    checkpoint: Callable[[int, WriteState], None]
    log_again: Callable[[int, Metrics], None] = lambda step, metrics: None
    show: Callable[[int, MatchedPair], None] = lambda step, pair: None
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network
    rank: int = 0
    world_size: int = 1
    device: torch.device = CPU


def fit(
    config: TrainConfig,
    training: TrainingData,
    validation: PairDataset | None,
    worker: Worker,
    sampler: Sampler,
    resume: str | Path | None = None,
) -> TrainState:
    """Train from the start, or from the checkpoint in the folder or URI ``resume``.

    Args:
        training: the samples that ``sampler`` draws from.

    Returns:
        the state after the last step.

    Raises:
        UserError: the configuration does not fit the data, the checkpoint does not fit the
            configuration, or the loss is not finite.
    """
    state = initial_state(config, worker.device)
    if resume is not None:
        _resume(state, resume)
        for step, metrics in state.recent.items():
            worker.log_again(step, metrics)
    network = compile_network(state.network, config) if config.compile else state.network
    stepper = Stepper(config, state, worker.wrap(network))
    batches = training_batches(
        training,
        sampler,
        state.network.channels,
        config,
        state.step,
        worker.rank,
        worker.world_size,
        worker.device,
    )
    arriving = on_device(batches, worker.device)
    clock, waited = time.perf_counter(), 0.0
    pending: list[Outcome] = []
    first = state.step
    for step in range(first, config.steps):
        asked = time.perf_counter()
        batch = next(arriving)
        waited += time.perf_counter() - asked
        pending.append(stepper.step(step, batch))
        done = step + 1
        ends = done == config.steps
        validates = validation is not None and (done % config.validate_every == 0 or ends)
        saves = done % config.checkpoint_every == 0 or ends
        if not (validates or saves or step == first or len(pending) == READ_EVERY):
            continue
        rows = read(pending)
        costs = _costs(config, worker, len(rows), time.perf_counter() - clock, waited)
        state.step = done
        if validation is not None and validates:
            rows[-1] |= _validate(config, state, validation, worker)
        for state.step, metrics in enumerate(rows, start=done + 1 - len(rows)):
            metrics |= costs
            # A kill can lose metrics from before the last checkpoint: a resume logs them again.
            state.report(metrics, 2 * config.checkpoint_every)
            if worker.rank == 0:
                worker.log(state.step - 1, metrics)
        if saves:
            worker.checkpoint(state.step, _state_writer(state))
        pending.clear()
        clock, waited = time.perf_counter(), 0.0
    state.network.eval()
    return state


def _costs(
    config: TrainConfig, worker: Worker, steps: int, seconds: float, waited: float
) -> Metrics:
    """Mean cost of the last steps: time, of it waiting for data, and most GPU memory."""
    costs = {
        "pairs_per_second": steps * config.batch_size / seconds,
        "step_seconds": seconds / steps,
        "data_wait_seconds": waited / steps,
        "workers": float(worker.world_size),
    }
    if worker.device.type == "cuda":
        costs["gpu_memory_gib"] = torch.cuda.max_memory_allocated(worker.device) / 2**30
        torch.cuda.reset_peak_memory_stats(worker.device)
    return costs


def best_weights(state: TrainState) -> tuple[dict[str, torch.Tensor], Metrics]:
    """Choose the weights to publish: those that validated best, or without validation the last.

    Returns:
        the weights, and the last metrics with the validation scores of these weights.
    """
    if state.best.weights:
        scores = state.best.metrics | {"best_step": float(state.best.step)}
        return state.best.weights, state.metrics | scores
    weights = state.ema.weights if state.ema else state.network.state_dict()
    return weights, state.metrics


def _resume(state: TrainState, folder: str | Path) -> None:
    snapshot = load_checkpoint(folder)
    try:
        state.restore(snapshot)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise unusable(folder, error) from error


def _validate(
    config: TrainConfig, state: TrainState, validation: PairDataset, worker: Worker
) -> Metrics:
    """Validate the weights (the EMA, if there is one); keep them if they are the best."""

    def measure() -> Metrics:
        scores = validate(
            state.network,
            validation,
            config,
            worker.rank,
            worker.world_size,
            lambda pair: worker.show(state.step, pair),
        )
        metrics = {f"validation/{name}": value for name, value in scores.items()}
        score = scores.get(config.best_by, -1.0)
        if score > state.best.score:
            weights = {
                name: value.detach().to("cpu", copy=True)
                for name, value in state.network.state_dict().items()
            }
            state.best = Best(score, state.step, metrics, weights)
        return metrics

    if state.ema is None:
        return measure()
    with state.ema.in_place(state.network):
        return measure()


def _state_writer(state: TrainState) -> WriteState:
    snapshot = state.snapshot()
    return lambda folder: save_checkpoint(folder, snapshot)
