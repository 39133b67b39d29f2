"""Running statistics of batch normalisation over a global batch that is seen in groups.

Each group is normalised by its own statistics, so that gradients do not depend on how the groups
are shared out among workers ("ghost batch normalisation", Hoffer et al., "Train longer, generalize
better", 2017). The running statistics, which the trained network normalises by, take the mean over
all groups of the step.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class BatchStatistics:
    """Brings the running statistics of a network through a step.

    Args:
        network: without one of these norms every method does nothing.
    """

    def __init__(self, network: nn.Module) -> None:
        self._running: list[Tensor] = [
            statistic
            for module in network.modules()
            if isinstance(module, _BatchNorm)
            for statistic in (module.running_mean, module.running_var)
            if statistic is not None
        ]
        self._before = [statistic.clone() for statistic in self._running]
        # In float64 the order of the groups leaves no trace.
        self._sums = [torch.zeros_like(one, dtype=torch.float64) for one in self._running]

    def begin_step(self) -> None:
        """Remember where the step starts from."""
        if self._running:
            torch._foreach_copy_(self._before, self._running)
            torch._foreach_zero_(self._sums)

    def end_group(self) -> None:
        """Take what the group's forward pass left; the next group starts from where this one did.

        To be called after the group's backward pass.
        """
        if self._running:
            torch._foreach_add_(self._sums, [one.double() for one in self._running])
            torch._foreach_copy_(self._running, self._before)

    def end_step(self, num_groups: int) -> None:
        """Set the mean over all groups of all workers.

        Args:
            num_groups: of all workers together.
        """
        if not self._running:
            return
        flat = torch.cat([total.flatten() for total in self._sums])
        if dist.is_initialized():
            dist.all_reduce(flat)
        flat /= num_groups
        means = torch.split(flat, [statistic.numel() for statistic in self._running])
        torch._foreach_copy_(self._running, list(means))
