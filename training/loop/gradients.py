"""The gradient of a global batch, the same whoever computed which part of it.

Sums of a few float32 values in float64 are exact but for the rarest cases, so that their order, and
with it the number of workers, leaves no trace once the mean is rounded to float32. Optimisers that
divide by the size of the gradient would blow such traces up.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel


class GradientMean:
    """Adds up the gradients of a worker's passes, and takes the mean over all groups of all.

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

    def backward(self, outputs: Sequence[Tensor], slopes: Sequence[Tensor]) -> None:
        """Leave in the parameters the mean gradient of all passes of all workers.

        Args:
            outputs: of this worker's passes; the last one was called for distributed training.
            slopes: gradients with respect to these outputs.
        """
        for output, slope in zip(outputs[:-1], slopes[:-1], strict=True):
            gradients = torch.autograd.grad(output, self._parameters, slope, allow_unused=True)
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                if gradient is not None:
                    before = self._sums.get(parameter)
                    exact = gradient.double()
                    self._sums[parameter] = exact if before is None else before.add_(exact)
        torch.autograd.backward(outputs[-1], slopes[-1])
        if not self._is_shared and self._num_groups > 1:
            used = {p: p.grad for p in self._parameters if p.grad is not None}
            means = list(used.values())
            if self._sums:
                means = list(torch._foreach_add([self._sums[p] for p in used], means))
            torch._foreach_div_(means, self._num_groups)
            if self._sums:
                torch._foreach_copy_(list(used.values()), means)
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
