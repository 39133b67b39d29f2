"""The gradient of a global batch, the same whoever computed which part of it.

Sums of a few float32 values in float64 are exact but for the rarest cases, so that their order, and
with it the number of workers, leaves no trace once the mean is rounded to float32. Optimisers that
divide by the size of the gradient would blow such traces up.
"""

import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel


class GradientMean:
    """Adds up the gradients of a worker's groups, and takes the mean over all groups of all.

    Args:
        wrapped: the network; one for distributed training shares its gradients through here.
        num_groups: of all workers together.
    """

    def __init__(self, wrapped: nn.Module, num_groups: int) -> None:
        self._parameters = [p for p in wrapped.parameters() if p.requires_grad]
        self._num_groups = num_groups
        self._sums: dict[Tensor, Tensor] = {}
        self._is_shared = isinstance(wrapped, DistributedDataParallel)
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.register_comm_hook(None, self._share)

    def set_aside(self) -> None:
        """Take the gradients of a group that is not the worker's last."""
        for parameter in self._parameters:
            if parameter.grad is not None:
                if parameter in self._sums:
                    self._sums[parameter] += parameter.grad
                else:
                    self._sums[parameter] = parameter.grad.double()
                parameter.grad = None

    def finish(self) -> None:
        """Leave the mean in the parameters, after the backward pass of the worker's last group."""
        if not self._is_shared and self._num_groups > 1:
            for parameter in self._parameters:
                if parameter.grad is not None:
                    total = parameter.grad.double().add_(self._sums[parameter])
                    parameter.grad.copy_(total.div_(self._num_groups))
        self._sums.clear()

    def _share(self, _: object, bucket: GradBucket) -> Future[Tensor]:
        """Sum a part of the gradients over the workers, while the backward pass goes on."""
        buffer = bucket.buffer()
        total = buffer.double()
        for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
            if parameter in self._sums:
                start = gradient.storage_offset() - buffer.storage_offset()
                part = total.as_strided(gradient.shape, gradient.stride(), start)
                part += self._sums[parameter]

        def mean(done: Future[list[Tensor]]) -> Tensor:
            return buffer.copy_(done.value()[0] / self._num_groups)

        summed: Future[list[Tensor]] = dist.all_reduce(total, async_op=True).get_future()
        return summed.then(mean)
