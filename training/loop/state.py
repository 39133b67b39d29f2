"""The state of training; random generators are derived from the step and need no state."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ucn.errors import UserError
from ucn.training.config import TrainConfig
from ucn.training.loop.ema import EMA, Weights
from ucn.training.loop.optimise import build_optimiser
from ucn.training.networks import build_network
from ucn.training.networks.base import DenseNetwork
from ucn.training.networks.published_weights import read_published

Metrics = dict[str, float]


@dataclass
class Best:
    """The weights that validated best.

    Attributes:
        score: value of the score that `TrainConfig.best_by` names.
        step: steps done at that validation; -1 before the first.
        metrics: of that validation.
        weights: on the CPU.
    """

    score: float = -1.0
    step: int = -1
    metrics: Metrics = field(default_factory=dict)
    weights: Weights = field(default_factory=dict)


@dataclass
class TrainState:
    """The network, optimiser, EMA and counters.

    Attributes:
        ema: moving average of the weights; None where it is off.
        step: steps done; the next one has this number.
        metrics: latest values, by name.
        recent: metrics of the last steps, by step.
    """

    network: DenseNetwork
    optimiser: torch.optim.Optimizer
    ema: EMA | None
    best: Best
    step: int = 0
    metrics: Metrics = field(default_factory=dict)
    recent: dict[int, Metrics] = field(default_factory=dict)

    def report(self, metrics: Metrics, kept: int) -> None:
        """Take the metrics of the last step; keep those of the last ``kept`` steps."""
        self.metrics |= metrics
        self.recent[self.step - 1] = metrics
        self.recent.pop(self.step - 1 - kept, None)

    def snapshot(self) -> dict[str, Any]:
        """Copy the state to the CPU, so that training continues while the copy is written."""
        return {
            "network": _to_cpu(self.network.state_dict()),
            "optimiser": _to_cpu(self.optimiser.state_dict()),
            "average": _to_cpu(self.ema.weights) if self.ema else {},
            "best": vars(self.best).copy(),
            "step": self.step,
            "metrics": dict(self.metrics),
            "recent": dict(self.recent),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Restore the state from a snapshot.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: it is of another network or optimiser.
        """
        self.network.load_state_dict(snapshot["network"])
        self.optimiser.load_state_dict(snapshot["optimiser"])
        if self.ema is not None:
            for name, value in self.ema.weights.items():
                value.copy_(snapshot["average"][name])
        self.best = Best(**snapshot["best"])
        self.step, self.metrics = snapshot["step"], snapshot["metrics"]
        self.recent = snapshot["recent"]


def initial_network(config: TrainConfig) -> DenseNetwork:
    """Build the network on the CPU, with published weights if configured.

    The random weights are a function of ``config.seed`` alone.

    Raises:
        UserError: the network's options or the published weights do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(config.network.name, config.network.options)
    if config.network.weights is not None:
        _start_from(network, config.network.weights)
    return network


def initial_state(config: TrainConfig, device: torch.device) -> TrainState:
    """Build the network and the optimiser.

    Raises:
        UserError: as `initial_network`.
    """
    network = initial_network(config).to(device)
    optimiser = build_optimiser(network, config.optimiser)
    decay = config.schedule.ema_decay
    ema = EMA(network, decay) if decay else None
    return TrainState(network, optimiser, ema, Best())


def _start_from(network: DenseNetwork, path: Path) -> None:
    try:
        network.load_published(read_published(path))
    except ValueError as error:
        raise UserError(
            f"{path}: does not fit the network ({error}); set network.weights to another file, or "
            "network.name to the network that it is of"
        ) from error


def _to_cpu(value: Any) -> Any:
    """Copy the tensors in nested dicts and lists."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: _to_cpu(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_to_cpu(part) for part in value]
    return value
