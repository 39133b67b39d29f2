"""Features of networks that are trained on ImageNet and not for matching."""

from pathlib import Path
from typing import ClassVar

from pydantic import PrivateAttr

from ucn.errors import UserError
from ucn.evaluation.methods.baselines.base import DenseDescriber
from ucn.matching.descriptors import Pixels
from ucn.matching.features import Dense
from ucn.training.config import NetworkConfig, Option
from ucn.training.model import ImageConfig, Model, ModelConfig
from ucn.training.networks import build_network
from ucn.training.networks.published_weights import IMAGENET, read_published


class _ImageNetFeatures(DenseDescriber):
    """Describes images by a network of this project with published weights and without a head."""

    network: ClassVar[str]
    weights: Path
    """Published weights, .pth or .safetensors."""

    _model: Model = PrivateAttr()

    def model_post_init(self, context: object) -> None:
        options = {"head": False} | self._options()
        network = build_network(self.network, options)
        try:
            network.load_published(read_published(self.weights))
        except ValueError as error:
            raise UserError(f"{self.weights}: {error}") from error
        config = ModelConfig(
            network=NetworkConfig(name=self.network, options=options, weights=self.weights),
            stride=network.stride,
            offset=network.offset,
            descriptor_dimension=network.dimension,
            image=ImageConfig(channels=network.channels),
        )
        self._model = Model(config, network.eval())

    def _options(self) -> dict[str, Option]:
        """Further options of the network."""
        return {}

    def describe_map(self, image: Pixels) -> Dense:
        return self._model.describe_map(image)


class GoogLeNet(_ImageNetFeatures):
    """Describes images by inception_4a of GoogLeNet, 512 values a cell.

    The pooling layers before it have stride 1, as in the Universal Correspondence Network. So
    there is a cell at every fourth pixel, denser than in training on ImageNet.

    Raises:
        UserError: the file of weights is missing, damaged, or of another network.
    """

    title: ClassVar = "GoogLeNet 4a"
    network: ClassVar = "googlenet"


class ImageNet(_ImageNetFeatures):
    """Describes images by activations of EfficientNet-Lite0, bilinear at every fourth pixel.

    Raises:
        UserError: the file of weights is missing, damaged, or of another network.
    """

    title: ClassVar = "ImageNet activations"
    network: ClassVar = "efficientnet"

    weights: Path = IMAGENET
    """Published weights, .pth or .safetensors; `imagenet`: those of the extra of this name."""
    blocks: str = "10,13"
    """Numbers of the blocks, 0 to 14, with commas between; each of unit length."""

    def _options(self) -> dict[str, Option]:
        return {"blocks": self.blocks}
