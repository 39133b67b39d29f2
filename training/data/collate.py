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
    num_points = max(len(item.matches_N4) for item in items)
    points = np.zeros((len(items), 2, num_points, 2), np.float32)
    present = np.zeros((len(items), 2, num_points), np.bool_)
    uniform = np.zeros((len(items), 2, num_points))
    for pair, item in enumerate(items):
        count = len(item.matches_N4)
        points[pair, :, :count] = item.matches_N4.numpy().reshape(count, 2, 2).swapaxes(0, 1)
        present[pair, :, :count] = True
        uniform[pair, :, :count] = np.random.default_rng(item.seed).random((2, count))
    images = np.stack([image.numpy() for item in items for image in item.images])
    arrays: list[Array] = [uniform, points, images, present]
    if any(item.valid is not None for item in items):
        size = images.shape[2:]
        whole = np.ones(size, np.bool_)
        masks = [
            item.valid[side].numpy() if item.valid else whole for item in items for side in (0, 1)
        ]
        arrays.append(np.stack(masks))
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
    return [
        part.view(torch.from_numpy(array[:0]).dtype).view(array.shape)
        for part, array in zip(parts, arrays, strict=True)
    ]
