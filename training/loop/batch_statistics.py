"""Batch normalisation per group of images, of which one pass may hold many.

Each group is normalised by its own statistics, so that gradients do not depend on how the groups
are shared out among workers ("ghost batch normalisation", Hoffer et al., "Train longer, generalize
better", 2017). The running statistics, which the trained network normalises by, take the mean over
all groups of the step.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F


class GroupedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that keeps the statistics of each group, for `BatchStatistics`.

    Attributes:
        images_in_group: consecutive images that are normalised together.
        statistics: of each pass since the last step, mean and unbiased variance of its groups,
            float32 [2, groups, C].
    """

    images_in_group: int
    statistics: list[Tensor]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x_BCHW)
        num_groups = len(x_BCHW) // self.images_in_group
        shape = 2, num_groups, self.num_features
        statistics_2GC = x_BCHW.new_zeros(shape, dtype=self.weight.dtype)
        self.statistics.append(statistics_2GC)
        mean_C, var_C = statistics_2GC.flatten(1)
        weight_C: Tensor = self.weight
        bias_C: Tensor = self.bias
        if num_groups > 1:
            weight_C, bias_C = weight_C.repeat(num_groups), bias_C.repeat(num_groups)
            # Groups become channels.
            x_BHWC = x_BCHW.movedim(1, 3)
            x_GnHWC = x_BHWC.reshape(num_groups, -1, *x_BHWC.shape[1:])
            x_BCHW = x_GnHWC.movedim(0, 3).flatten(3, 4).movedim(3, 1)
        # With a momentum of 1, the running statistics become those of the group.
        y_BCHW = F.batch_norm(x_BCHW, mean_C, var_C, weight_C, bias_C, True, 1.0, self.eps)
        if num_groups > 1:
            y_nHWS = y_BCHW.movedim(1, 3)
            y_nHWGC = y_nHWS.reshape(*y_nHWS.shape[:3], num_groups, -1)
            y_BCHW = y_nHWGC.movedim(3, 0).flatten(0, 1).movedim(3, 1)
        return y_BCHW


class BatchStatistics:
    """Makes a network normalise by groups, and keeps its running statistics.

    Args:
        network: its `nn.BatchNorm2d` with running statistics become `GroupedBatchNorm2d`. Without
            any, nothing is done. Their momentum is a number.
        images_in_group: consecutive images that are normalised together.
    """

    def __init__(self, network: nn.Module, images_in_group: int) -> None:
        self._norms: list[GroupedBatchNorm2d] = []
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
                module.__class__ = GroupedBatchNorm2d
                assert isinstance(module, GroupedBatchNorm2d)
                module.images_in_group, module.statistics = images_in_group, []
                self._norms.append(module)
        self._running = [
            [getattr(norm, name) for norm in self._norms]
            for name in ("running_mean", "running_var", "num_batches_tracked")
        ]

    def end_step(self, num_groups: int) -> None:
        """Move the running statistics towards the mean over all groups of all workers.

        Args:
            num_groups: of all workers together.
        """
        if not self._norms:
            return
        passes = zip(*(norm.statistics for norm in self._norms), strict=True)
        groups_2GS = torch.cat([torch.cat(norms, dim=2) for norms in passes], dim=1)
        # In float64 the order of the groups leaves no trace.
        total_2S = groups_2GS.sum(dim=1, dtype=torch.float64)
        if dist.is_initialized():
            dist.all_reduce(total_2S)
        sizes = [norm.num_features for norm in self._norms]
        momenta = [norm.momentum or 0.0 for norm in self._norms]
        *running_2, steps = self._running
        for running, mean_S in zip(running_2, (total_2S / num_groups).float(), strict=True):
            torch._foreach_lerp_(running, torch.split(mean_S, sizes), momenta)
        torch._foreach_add_(steps, 1)
        for norm in self._norms:
            norm.statistics.clear()
