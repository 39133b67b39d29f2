"""Activations of an ImageNet GoogLeNet as descriptors: inception_4a, nothing trained to match."""

from pathlib import Path

from torch import nn

from ucn.errors import UserError
from ucn.evaluation.methods.network import network_describer
from ucn.matching.descriptors import Describe
from ucn.training.config import NetworkConfig
from ucn.training.model import ImageConfig, Model, ModelConfig
from ucn.training.networks.googlenet import GoogLeNetUCN
from ucn.training.networks.published_weights import read_published

DIMENSION = 512
"""Channels of inception_4a."""


def googlenet_describer(weights: Path) -> Describe:
    """Describe points by the activations of inception_4a [N, 512], read bilinearly.

    The poolings before it have stride 1, as in the Universal Correspondence Network: cells lie at
    every fourth pixel, closer than the kernels saw them on ImageNet.

    Args:
        weights: of torchvision's ``googlenet``, ``.pth`` or ``.safetensors``.

    Raises:
        UserError: the file is missing, damaged, or of another network.
    """
    network = GoogLeNetUCN(DIMENSION)
    try:
        network.load_published(read_published(weights))
    except ValueError as error:
        raise UserError(f"{weights}: {error}") from error
    network.register_module("head", nn.Identity())
    config = ModelConfig(
        network=NetworkConfig(name="googlenet", options={"dimension": DIMENSION}, weights=weights),
        stride=network.stride,
        offset=network.offset,
        descriptor_dimension=DIMENSION,
        image=ImageConfig(channels=network.channels),
    )
    return network_describer(Model(config, network.eval()))
