"""The gradient of a global batch, the same whoever computed which part of it."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel


def distributed(network: nn.Module) -> DistributedDataParallel:
    """Wrap a network for `GradientSum`; `BatchStatistics` shares its running statistics."""
    return DistributedDataParallel(
        network, broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=True
    )


class GradientSum:
    """Adds up the gradients of all passes of all workers.

    The order of more than two terms would leave a trace of rounding, which optimisers that divide
    by the size of the gradient would blow up. Where ``exact``, they are added in float64, which
    leaves none but for the rarest cases.

    Args:
        wrapped: the network; one for distributed training shares its gradients through here.
        exact: whether more than two passes of all workers are added.
    """

    def __init__(self, wrapped: nn.Module, *, exact: bool) -> None:
        self._parameters = [p for p in wrapped.parameters() if p.requires_grad]
        self._dtype = torch.float64 if exact else torch.float32
        self._sums: dict[Tensor, Tensor] = {}
        self._is_shared = isinstance(wrapped, DistributedDataParallel)
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.register_comm_hook(None, self._share)

    def backward(self, outputs: Sequence[Tensor], slopes: Sequence[Tensor]) -> None:
        """Leave in the parameters the summed gradient of all passes of all workers.

        Args:
            outputs: of this worker's passes; the last one was called for distributed training.
            slopes: gradients with respect to these outputs.
        """
        if self._dtype == torch.float32 and not self._is_shared:
            torch.autograd.backward(outputs, slopes)
            return
        for output, slope in zip(outputs[:-1], slopes[:-1], strict=True):
            gradients = torch.autograd.grad(output, self._parameters, slope, allow_unused=True)
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                if gradient is not None:
                    before = self._sums.get(parameter)
                    term = gradient.to(self._dtype)
                    self._sums[parameter] = term if before is None else before.add_(term)
        torch.autograd.backward(outputs[-1], slopes[-1])
        if self._sums and not self._is_shared:
            last = {p: p.grad for p in self._sums if p.grad is not None}
            sums = torch._foreach_add([self._sums[p] for p in last], list(last.values()))
            torch._foreach_copy_(list(last.values()), sums)
        self._sums.clear()

    def _share(self, _: object, bucket: GradBucket) -> Future[Tensor]:
        """Sum a part of the gradients over the workers, while the backward pass goes on."""
        buffer = bucket.buffer()
        total = buffer.to(self._dtype)
        for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
            if parameter in self._sums:
                start = gradient.storage_offset() - buffer.storage_offset()
                part = total.as_strided(gradient.shape, gradient.stride(), start)
                part += self._sums[parameter]
        summed: Future[list[Tensor]] = dist.all_reduce(total, async_op=True).get_future()
        return summed.then(lambda done: buffer.copy_(done.value()[0]))
