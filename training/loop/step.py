"""One optimiser step over a global batch that is distributed over the workers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ucn.errors import UserError
from ucn.training.config import TrainConfig
from ucn.training.data.collate import Batch
from ucn.training.device import use_bfloat16
from ucn.training.loop.batch_statistics import BatchStatistics
from ucn.training.loop.gradients import GradientSum
from ucn.training.loop.optimise import learning_rate, set_learning_rate
from ucn.training.loop.state import Metrics, TrainState
from ucn.training.losses.pair_losses import pair_losses


@dataclass(frozen=True)
class Outcome:
    """What a step leaves on its device, for `read`.

    Attributes:
        step: its number.
        learning_rate: that it used.
        values: float64 [3], loss, hit ratio and gradient norm of the batch.
        keys: of this worker's pairs.
        loss_P: losses of this worker's pairs.
    """

    step: int
    learning_rate: float
    values: Tensor
    keys: tuple[str, ...]
    loss_P: Tensor


class Stepper:
    """Takes optimiser steps; the gradient is the mean over all groups of all workers.

    Args:
        state: its network, optimiser and EMA are changed.
        wrapped: the network as it is called: compiled or not, wrapped for distributed training.
    """

    def __init__(
        self,
        config: TrainConfig,
        state: TrainState,
        wrapped: nn.Module,
    ) -> None:
        self._config = config
        self._state = state
        self._wrapped = wrapped
        # Without the hooks of distributed training, for passes whose gradient is not yet shared.
        self._alone = wrapped.module if isinstance(wrapped, DistributedDataParallel) else wrapped
        images_in_group = 2 * config.pairs_in_group
        self._statistics = BatchStatistics(state.network, images_in_group)
        # The sums inside a convolution depend on what passes together. On a CPU, where passes of
        # groups cost no more, they must not depend on the number of workers.
        on_cpu = next(state.network.parameters()).device.type == "cpu"
        self._gradient = GradientSum(wrapped, exact=on_cpu and config.groups > 2)
        self._images_in_pass = images_in_group if on_cpu else 2 * config.batch_size

    def step(self, step: int, batch: Batch) -> Outcome:
        """Take one step with this worker's groups of the batch, without waiting for its outcome."""
        config, state = self._config, self._state
        rate = learning_rate(step, config.steps, config.optimiser.learning_rate, config.schedule)
        set_learning_rate(state.optimiser, rate)
        state.optimiser.zero_grad(set_to_none=True)
        state.network.train()
        summary, loss_P = self._backward(step, batch)
        norm = nn.utils.clip_grad_norm_(
            state.network.parameters(), config.optimiser.clip_norm, foreach=True
        )
        state.optimiser.step()
        if state.ema is not None:
            state.ema.update(state.network, step)
        values = torch.cat([summary, norm[None].double()])
        return Outcome(step, rate, values, batch.keys, loss_P)

    def _backward(self, step: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the gradient of the batch, in place in the network.

        Returns:
            mean loss and hit ratio over the batch [2], and the losses of this worker's pairs.
        """
        config, network = self._config, self._state.network
        passes = self._describe(batch.images_BCHW)
        joined_BDHW = passes[0] if len(passes) == 1 else torch.cat(passes)
        features_BDHW = joined_BDHW.detach().requires_grad_()
        losses = pair_losses(features_BDHW, network, batch, config, step)
        total = losses.loss_P.sum() / config.pairs_in_group
        (slope_BDHW,) = torch.autograd.grad(total / config.groups, features_BDHW)
        # In the layout of the features: the passes back take twice the time otherwise.
        slope_BDHW = slope_BDHW.contiguous(memory_format=torch.channels_last)
        self._gradient.backward(passes, torch.split(slope_BDHW, len(passes[0])))
        self._statistics.end_step(config.groups)
        num_groups = len(batch.keys) // config.pairs_in_group
        summary = torch.stack([total.detach(), losses.hit_ratio * num_groups]).double()
        if dist.is_initialized():
            dist.all_reduce(summary)
        return summary / config.groups, losses.loss_P.detach()

    def _describe(self, images_BCHW: Tensor) -> list[Tensor]:
        """Describe images, in one or several passes.

        Returns:
            features [images, D, h, w] of each pass.
        """
        config = self._config
        images_BCHW = images_BCHW.float().div_(255)
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        parts = torch.split(images_BCHW, self._images_in_pass)
        networks = [self._alone] * (len(parts) - 1) + [self._wrapped]
        device = images_BCHW.device
        halves = use_bfloat16(config.bfloat16, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=halves):
            return [network(part) for network, part in zip(networks, parts, strict=True)]


def read(outcomes: Sequence[Outcome]) -> list[Metrics]:
    """Wait for steps, the same on all workers, and read their metrics.

    Returns:
        of each step ``loss``, ``hit_ratio``, ``gradient_norm`` (before clipping) and
        ``learning_rate``, means over the batch.

    Raises:
        UserError: the loss or its gradient is not finite; names the first such step and its pairs.
    """
    names = "loss", "hit_ratio", "gradient_norm"
    rows = torch.stack([outcome.values for outcome in outcomes]).tolist()
    for outcome, row in zip(outcomes, rows, strict=True):
        # The gradient is the same on all workers, so that all stop.
        if not all(map(math.isfinite, row)):
            raise UserError(_not_finite(outcome.step, outcome.keys, outcome.loss_P))
    return [
        dict(zip(names, row, strict=True)) | {"learning_rate": outcome.learning_rate}
        for outcome, row in zip(outcomes, rows, strict=True)
    ]


def _not_finite(step: int, keys: Sequence[str], loss_P: Tensor) -> str:
    """Name the pairs, of all workers, whose loss is not finite; all pairs if there are none."""
    finite = loss_P.isfinite().tolist()
    mine = list(keys), [key for key, is_finite in zip(keys, finite, strict=True) if not is_finite]
    everyone = [mine]
    if dist.is_initialized():
        everyone = [mine] * dist.get_world_size()
        dist.all_gather_object(everyone, mine)
    guilty = [key for _, part in everyone for key in part]
    named = ", ".join(guilty or [key for part, _ in everyone for key in part])
    return (
        f"optimiser.learning_rate: the loss or its gradient is not finite in step {step}, pairs "
        f"{named}; look at them with `ucn inspect`, or lower optimiser.learning_rate"
    )
