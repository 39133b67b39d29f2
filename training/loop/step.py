"""One optimiser step over a global batch that is distributed over the workers."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ucn.errors import UserError
from ucn.training.config import TrainConfig
from ucn.training.data.collate import collate
from ucn.training.data.pairs import Item
from ucn.training.loop.batch_statistics import BatchStatistics
from ucn.training.loop.gradients import GradientMean
from ucn.training.loop.optimise import learning_rate, set_learning_rate
from ucn.training.loop.state import Metrics, TrainState
from ucn.training.losses.pair_losses import pair_losses


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
        self._gradient = GradientMean(wrapped, config.groups)
        self._statistics = BatchStatistics(state.network)

    def step(self, step: int, groups: Sequence[Sequence[Item]]) -> Metrics:
        """Take one step with this worker's groups of the batch.

        Returns:
            ``loss``, ``hit_ratio``, ``gradient_norm`` (before clipping) and ``learning_rate``,
            means over the batch.

        Raises:
            UserError: the loss or its gradient is not finite; names the pairs.
        """
        config, state = self._config, self._state
        rate = learning_rate(step, config.steps, config.optimiser.learning_rate, config.schedule)
        set_learning_rate(state.optimiser, rate)
        state.optimiser.zero_grad(set_to_none=True)
        state.network.train()
        summary, losses = self._backward(step, groups)
        norm = nn.utils.clip_grad_norm_(state.network.parameters(), config.optimiser.clip_norm)
        # The gradient is the same on all workers, so that all stop in the same step.
        if not bool(torch.isfinite(norm) & torch.isfinite(summary).all()):
            raise UserError(_not_finite(step, groups, losses))
        state.optimiser.step()
        if state.ema is not None:
            state.ema.update(state.network, step)
        loss, hit_ratio = summary.tolist()
        return {
            "loss": loss,
            "hit_ratio": hit_ratio,
            "gradient_norm": float(norm),
            "learning_rate": rate,
        }

    def _backward(self, step: int, groups: Sequence[Sequence[Item]]) -> tuple[Tensor, list[Tensor]]:
        """Compute the gradient of the batch, in place in the network.

        Returns:
            mean loss and hit ratio over the batch [2], and the losses of this worker's pairs.
        """
        means: list[Tensor] = []
        losses: list[Tensor] = []
        device = next(self._state.network.parameters()).device
        self._statistics.begin_step()
        for place, group in enumerate(groups):
            is_last = place + 1 == len(groups)
            with nullcontext() if is_last else self._apart():
                batch = collate(group, device)
                outcome = pair_losses(self._wrapped, self._state.network, batch, self._config, step)
                loss = outcome.loss_P.mean()
                torch.autograd.backward(loss)
            if not is_last:
                self._gradient.set_aside()
            self._statistics.end_group()
            means.append(torch.stack([loss.detach(), outcome.hit_ratio]))
            losses.append(outcome.loss_P.detach())
        self._gradient.finish()
        self._statistics.end_step(self._config.groups)
        summary = torch.stack(means).double().sum(dim=0)
        if dist.is_initialized():
            dist.all_reduce(summary)
        return summary / self._config.groups, losses

    def _apart(self) -> AbstractContextManager[None]:
        """Context without a reduction of gradients over the workers."""
        if isinstance(self._wrapped, DistributedDataParallel):
            return self._wrapped.no_sync()
        return nullcontext()


def _not_finite(step: int, groups: Sequence[Sequence[Item]], losses: Sequence[Tensor]) -> str:
    """Name the pairs, of all workers, whose loss is not finite; all pairs if there are none."""
    keys = [item.key for group in groups for item in group]
    finite = torch.cat(list(losses)).isfinite().tolist()
    mine = keys, [key for key, is_finite in zip(keys, finite, strict=True) if not is_finite]
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
