"""The pairs of a step as one buffer in host memory, and as tensors on a device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ucn.training.data.pairs import Item

Layout = tuple[tuple[torch.dtype, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Batch:
    """P pairs. Images 2 p and 2 p + 1 are those of pair p: B = 2 P.

    Attributes:
        keys: of the pairs.
        images_BCHW: uint8.
        points_BN2: float32, the correspondences in each image, pixels; zero beyond a pair's number.
        present_BN: bool, which rows are correspondences.
        uniform_BN: float64 draws from 0 to 1, of each pair's seed.
        valid_BHW: bool, False for padding; None if no image has any.
    """

    keys: tuple[str, ...]
    images_BCHW: Tensor
    points_BN2: Tensor
    present_BN: Tensor
    uniform_BN: Tensor
    valid_BHW: Tensor | None


@dataclass(frozen=True)
class PackedBatch:
    """A `Batch` in host memory.

    Attributes:
        keys: of the pairs.
        buffer: uint8, all tensors one after another. An array if it was not shared (`share`).
        layout: type and shape of each, by descending size of its elements, which aligns them.
    """

    keys: tuple[str, ...]
    buffer: Tensor | NDArray[np.uint8]
    layout: Layout

    def share(self) -> "PackedBatch":
        """Move the buffer to shared memory, by which another process receives it without a copy.

        Containers often have 64 MiB of it. Where it is full, the other process receives a copy.
        """
        buffer = torch.as_tensor(self.buffer)
        try:
            buffer.share_memory_()  # type: ignore[no-untyped-call]
        except RuntimeError:
            return replace(self, buffer=buffer.numpy())
        return replace(self, buffer=buffer)

    def pin_memory(self) -> "PackedBatch":
        """Move the buffer to pinned memory; `DataLoader` calls this."""
        return replace(self, buffer=torch.as_tensor(self.buffer).pin_memory())

    def to(self, device: torch.device) -> Batch:
        """Copy to a device in one copy, without waiting if pinned. On a CPU nothing is copied."""
        sizes = [dtype.itemsize * math.prod(shape) for dtype, shape in self.layout]
        parts = torch.split(torch.as_tensor(self.buffer).to(device, non_blocking=True), sizes)
        uniform_BN, points_BN2, images_BCHW, present_BN, *valid = (
            part.view(dtype).view(shape)
            for part, (dtype, shape) in zip(parts, self.layout, strict=True)
        )
        return Batch(
            self.keys, images_BCHW, points_BN2, present_BN, uniform_BN, valid[0] if valid else None
        )


def collate(items: Sequence[Item]) -> PackedBatch:
    """Put pairs with images of one size together."""
    num_images, (channels, height, width) = 2 * len(items), items[0].images[0].shape
    num_points = max(len(item.matches_N4) for item in items)
    layout: Layout = (
        (torch.float64, (num_images, num_points)),
        (torch.float32, (num_images, num_points, 2)),
        (torch.uint8, (num_images, channels, height, width)),
        (torch.bool, (num_images, num_points)),
    )
    if any(item.valid is not None for item in items):
        layout = (*layout, (torch.bool, (num_images, height, width)))
    size = sum(dtype.itemsize * math.prod(shape) for dtype, shape in layout)
    keys = tuple(item.key for item in items)
    packed = PackedBatch(keys, torch.zeros(size, dtype=torch.uint8), layout)
    batch = packed.to(torch.device("cpu"))
    for pair, item in enumerate(items):
        both, count = slice(2 * pair, 2 * pair + 2), len(item.matches_N4)
        uniform = np.random.default_rng(item.seed).random((2, count))
        batch.uniform_BN[both, :count] = torch.from_numpy(uniform)
        batch.points_BN2[both, :count] = item.matches_N4.view(count, 2, 2).transpose(0, 1)
        batch.present_BN[both, :count] = True
        batch.images_BCHW[both] = torch.stack(item.images)
        if batch.valid_BHW is not None:
            batch.valid_BHW[both] = True if item.valid is None else torch.stack(item.valid)
    return packed
