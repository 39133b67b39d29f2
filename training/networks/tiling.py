"""Features of images too large for one forward pass: tile by tile, equal to the whole's."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ucn.training.networks.base import DenseNetwork
from ucn.training.networks.describe import describe

ALIGNMENT = 32
"""Tiles start at multiples of so many pixels, by which moving an image moves its features exactly:
a multiple of the coarsest stride inside every network."""
PROBE = 128
"""Side of the image that the memory of a network is measured on, pixels."""


def describe_tiled(
    network: DenseNetwork,
    image: NDArray[np.uint8],
    memory_mib: int = 1024,
    pixel_bytes: float | None = None,
) -> Tensor:
    """Describe an image of any size without a gradient, in bounded memory.

    The tiles overlap by the network's receptive field, so that the features are those of one pass
    over the whole image. A network whose receptive field depends on the image (GoogLeNet with
    a transformer that moves its taps) comes close to them only.

    Args:
        network: in evaluation mode.
        image: uint8 [H, W] or [H, W, 3] RGB.
        memory_mib: bound on the activations of a pass; the features themselves come on top. Tiles
            are never smaller than half of their overlap.
        pixel_bytes: :func:`activation_bytes` of the network; None measures them.

    Returns:
        float32 [D, h, w], L2-normalised, on the network's device.
    """
    margin = tile_margin(network)
    core = tile_core(network, margin, memory_mib, pixel_bytes)
    return describe_in_tiles(network, image, core, margin)


def tile_margin(network: DenseNetwork) -> int:
    """Overlap of a tile with its neighbours, on each side, in pixels."""
    return round_up(network.receptive_field // 2 + network.stride, ALIGNMENT)


def tile_core(
    network: DenseNetwork, margin: int, memory_mib: int, pixel_bytes: float | None = None
) -> int:
    """Side of the square that is kept of a tile, pixels, such that a pass stays in the memory."""
    pixels = memory_mib * 2**20 / (pixel_bytes or activation_bytes(network))
    core = int(pixels**0.5) - 2 * margin
    return max(core // ALIGNMENT * ALIGNMENT, round_up(margin, ALIGNMENT))


def activation_bytes(network: DenseNetwork) -> float:
    """Bytes that all layers put out for one pixel of an image: more than ever live at once."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += output.numel() * output.element_size()

    layers = [module for module in network.modules() if not list(module.children())]
    handles = [layer.register_forward_hook(count) for layer in layers]
    try:
        features = describe(network, np.zeros((PROBE, PROBE), np.uint8), False)
    finally:
        for handle in handles:
            handle.remove()
    total += features.numel() * features.element_size()
    return total / PROBE**2


def describe_in_tiles(
    network: DenseNetwork, image: NDArray[np.uint8], core: int, margin: int
) -> Tensor:
    """As :func:`describe_tiled`, with tiles of a given size.

    Args:
        core: side of the square that is kept of a tile, pixels; a multiple of `ALIGNMENT`.
        margin: by how much a tile is larger on each side, likewise.

    Raises:
        ValueError: a size that is no such multiple.
    """
    if core < 1 or margin < 0 or core % ALIGNMENT or margin % ALIGNMENT:
        raise ValueError(f"tiles of {core} and {margin} px are no multiples of {ALIGNMENT}")
    rows = _spans(image.shape[0], core, margin)
    columns = _spans(image.shape[1], core, margin)
    if len(rows) == len(columns) == 1:
        return describe(network, image, False)
    whole: Tensor | None = None
    stride = network.stride
    # From the last corner on, whose tile tells the size of the map.
    for top, (first_y, last_y), bottom in reversed(rows):
        for left, (first_x, last_x), right in reversed(columns):
            tile_DHW = describe(network, image[top:bottom, left:right], False)
            if whole is None:
                height = top // stride + tile_DHW.shape[1]
                width = left // stride + tile_DHW.shape[2]
                # The descriptors last, as the matcher reads them.
                whole = tile_DHW.new_empty(height, width, network.dimension).permute(2, 0, 1)
            kept = whole[
                :, first_y // stride : last_y // stride, first_x // stride : last_x // stride
            ]
            y, x = (first_y - top) // stride, (first_x - left) // stride
            kept.copy_(tile_DHW[:, y : y + kept.shape[1], x : x + kept.shape[2]])
    assert whole is not None
    return whole


def round_up(value: int, multiple: int) -> int:
    """The least multiple that is at least a value."""
    return -(-value // multiple) * multiple


def _spans(size: int, core: int, margin: int) -> list[tuple[int, tuple[int, int], int]]:
    """Cut a side into tiles of about equal size: start, what is kept, and end of each, pixels.

    What is kept of the last one ends beyond the image, at the map's end.
    """
    if size <= core + 2 * margin:
        return [(0, (0, round_up(size, ALIGNMENT)), size)]
    even = round_up(-(-size // -(-size // core)), ALIGNMENT)
    spans = []
    for first in range(0, size, even):
        start, end = max(0, first - margin), min(size, first + even + margin)
        spans.append((start, (first, first + even), end))
    return spans
