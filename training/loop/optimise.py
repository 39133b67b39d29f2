"""The optimiser and its learning rate."""

import math

import torch
from torch import nn

from ucn.training.config import OptimiserConfig, ScheduleConfig


def build_optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Optimise all parameters; weight decay falls on kernels, not on norms and biases."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(
            groups,
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=nesterov,
            fused=True,
        )
    betas = config.momentum, 0.999
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)


def learning_rate(step: int, steps: int, peak: float, config: ScheduleConfig) -> float:
    """Learning rate of a step (from 0): linear warm-up to ``peak``, then ``config.decay``.

    The last step has ``config.final_fraction`` of the peak; that of a run no longer than the
    warm-up has the peak.
    """
    warmup_steps = min(config.warmup_steps, steps - 1)
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - 1 - warmup_steps)
    if config.decay == "exponential":
        return float(peak * config.final_fraction**progress)
    fall = (1 + math.cos(math.pi * progress)) / 2
    return peak * (config.final_fraction + (1 - config.final_fraction) * fall)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Use ``rate`` for all parameters from now on."""
    for group in optimiser.param_groups:
        group["lr"] = rate
