"""Exponential moving average of a network's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


class EMA:
    """Exponential moving average (EMA) of the weights and the running statistics.

    Args:
        network: its weights are the first average.
        decay: of the average, at most (1 + step) / (10 + step), which is lower early on.

    Attributes:
        weights: by the names of the network's state.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self.weights: Weights = {
            name: value.clone() for name, value in network.state_dict().items()
        }

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Update the average with the weights after ``step`` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        state = network.state_dict(keep_vars=True)
        averaged = [name for name, value in state.items() if value.is_floating_point()]
        copied = [name for name in state if name not in averaged]
        weights, values = ([of[name] for name in averaged] for of in (self.weights, state))
        torch._foreach_lerp_(weights, values, 1 - decay)
        if copied:
            counts, values = ([of[name] for name in copied] for of in (self.weights, state))
            torch._foreach_copy_(counts, values)

    @contextmanager
    def in_place(self, network: nn.Module) -> Iterator[None]:
        """Give the network the averaged weights during the block."""
        own = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(own)
