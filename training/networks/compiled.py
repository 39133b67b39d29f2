"""A compiled network that is known to compute what the network itself does."""

import torch
from torch import Tensor, nn

from ucn.errors import UserError
from ucn.training.config import TrainConfig
from ucn.training.device import use_bfloat16
from ucn.training.networks.base import DenseNetwork

TOLERANCE = 0.05
"""Relative difference of the gradient that bfloat16 may make; what miscompiles is off by far."""


def compile_network(network: DenseNetwork, config: TrainConfig) -> nn.Module:
    """Compile a network, and compare its gradient with that of the network itself.

    Inductor is not right for every shape: of some bilinear enlargements it takes no gradient.

    Returns:
        a module with the same parameters.

    Raises:
        UserError: the compiled network has another gradient, or there is no compiler.
    """
    augmentation = config.augmentation
    size = augmentation.crop_height, augmentation.crop_width
    generator = torch.Generator().manual_seed(config.seed)
    shape = 2 * config.pairs_in_group, network.channels, *size
    images_BCHW = torch.rand(shape, generator=generator).to(next(network.parameters()).device)
    images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
    compiled: nn.Module = torch.compile(network)  # type: ignore[assignment]
    try:
        expected, found = (_gradient(m, network, images_BCHW, config) for m in (network, compiled))
    except RuntimeError as error:
        raise UserError(
            f"compile: torch.compile fails ({str(error).splitlines()[0]}); install a C++ compiler, "
            "or set compile=false"
        ) from error
    if float((found - expected).norm() / expected.norm()) > TOLERANCE:
        raise UserError(
            "compile: this torch compiles the network to one with another gradient; set "
            "compile=false, or change network.options"
        )
    return compiled


def _gradient(
    module: nn.Module, network: DenseNetwork, images_BCHW: Tensor, config: TrainConfig
) -> Tensor:
    """Gradient of some function of the features; leaves the network as it was."""
    before = {name: value.clone() for name, value in network.named_buffers()}
    device = images_BCHW.device
    halves = use_bfloat16(config.bfloat16, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=halves):
        features_BDHW: Tensor = module.train()(images_BCHW)
    slope = torch.linspace(-1, 1, features_BDHW.numel(), device=features_BDHW.device).cos()
    torch.autograd.backward(features_BDHW, slope.view_as(features_BDHW))
    parts = [p.grad.flatten().float() for p in network.parameters() if p.grad is not None]
    network.zero_grad(set_to_none=True)
    for name, value in network.named_buffers():
        value.copy_(before[name])
    return torch.cat(parts)
