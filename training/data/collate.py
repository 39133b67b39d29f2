"""A worker's pairs of a step as tensors on its device, in one copy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ucn.arrays import Array
from ucn.training.data.pairs import Item


@dataclass(frozen=True)
class Batch:
    """P pairs. Images 2 p and 2 p + 1 are those of pair p: B = 2 P.

    Attributes:
        images_BCHW: uint8.
        points_BN2: float32, the correspondences in each image, pixels; zero beyond a pair's number.
        present_BN: bool, which rows are correspondences.
        uniform_BN: float64 draws from 0 to 1, of each pair's seed.
        valid_BHW: bool, False for padding; None if no image has any.
    """

    images_BCHW: Tensor
    points_BN2: Tensor
    present_BN: Tensor
    uniform_BN: Tensor
    valid_BHW: Tensor | None


def collate(items: Sequence[Item], device: torch.device) -> Batch:
    """Put pairs with images of one size together, and copy them to a device without waiting."""
    counts = [len(item.matches_N4) for item in items]
    present = np.zeros((len(items), 2, max(counts)), np.bool_)
    points = np.zeros((*present.shape, 2), np.float32)
    uniform = np.zeros(present.shape)
    matches = torch.cat([item.matches_N4 for item in items]).numpy().reshape(-1, 2, 2)
    for pair, (item, count, end) in enumerate(zip(items, counts, np.cumsum(counts), strict=True)):
        points[pair, :, :count] = matches[end - count : end].swapaxes(0, 1)
        present[pair, :, :count] = True
        uniform[pair, :, :count] = np.random.default_rng(item.seed).random((2, count))
    images = torch.stack([image for item in items for image in item.images]).numpy()
    arrays: list[Array] = [uniform, points, images, present]
    if any(item.valid is not None for item in items):
        whole = torch.ones(images.shape[2:], dtype=torch.bool)
        masks = [mask for item in items for mask in item.valid or (whole, whole)]
        arrays.append(torch.stack(masks).numpy())
    uniform_BN, points_BN2, images_BCHW, present_BN, *valid = _to_device(arrays, device)
    return Batch(
        images_BCHW,
        points_BN2.flatten(0, 1),
        present_BN.flatten(0, 1),
        uniform_BN.flatten(0, 1),
        valid[0] if valid else None,
    )


def _to_device(arrays: Sequence[Array], device: torch.device) -> list[Tensor]:
    """Copy arrays as one, from pinned memory where the device is a GPU.

    Args:
        arrays: by descending size of their elements, which keeps all aligned.
    """
    sizes = [array.nbytes for array in arrays]
    packed = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=device.type == "cuda")
    np.concatenate([array.reshape(-1).view(np.uint8) for array in arrays], out=packed.numpy())
    parts = torch.split(packed.to(device, non_blocking=True), sizes)
    types = {array.dtype: getattr(torch, array.dtype.name) for array in arrays}
    return [
        part.view(types[array.dtype]).view(array.shape)
        for part, array in zip(parts, arrays, strict=True)
    ]
