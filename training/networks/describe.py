"""From an image to what a network takes, and to its features."""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ucn.training.networks.base import DenseNetwork


def describe(network: DenseNetwork, image: NDArray[np.uint8], bfloat16: bool) -> Tensor:
    """Describe one image without a gradient.

    Args:
        network: in evaluation mode.
        image: uint8 [H, W] or [H, W, 3] RGB.
        bfloat16: run the network in bfloat16.

    Returns:
        float32 [D, h, w], L2-normalised, on the network's device.
    """
    device = next(network.parameters()).device
    batch = torch.from_numpy(as_channels(image, network.channels))[None].to(device).float() / 255
    batch = batch.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        features: Tensor = network(batch)[0]
    return features


def as_channels(image: NDArray[Any], channels: int) -> NDArray[np.uint8]:
    """Bring an image to what a network takes.

    Args:
        image: uint8 [H, W] or [H, W, 3] RGB.
        channels: 1 or 3; grey is taken three times.

    Returns:
        uint8 [channels, H, W].

    Raises:
        ValueError: the image is of another shape or type.
    """
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.shape[2:] == (3,)):
        raise ValueError(f"no uint8 [H, W] or [H, W, 3] image: {image.dtype} {image.shape}")
    if image.ndim == 3 and channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if image.ndim == 2:
        return np.repeat(image[None], channels, axis=0)
    return np.ascontiguousarray(image.transpose(2, 0, 1))
