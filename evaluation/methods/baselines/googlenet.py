"""GoogLeNet features as descriptors: inception_4a, trained on ImageNet and not for matching."""

from pathlib import Path

from torch import nn

from ucn.errors import UserError
from ucn.training.config import NetworkConfig
from ucn.training.model import ImageConfig, Model, ModelConfig
from ucn.training.networks.googlenet import GoogLeNetUCN
from ucn.training.networks.published_weights import read_published

DIMENSION = 512
"""Number of channels of inception_4a."""


def googlenet_model(weights: Path) -> Model:
    """A model that describes images by inception_4a, 512 values a cell.

    The pooling layers before it have stride 1, as in the Universal Correspondence Network. So
    there is a cell at every fourth pixel, denser than in training on ImageNet.

    Args:
        weights: weights of torchvision's ``googlenet``, ``.pth`` or ``.safetensors``.

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
    return Model(config, network.eval())
