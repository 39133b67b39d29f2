"""GoogLeNet features as descriptors: inception_4a, trained on ImageNet and not for matching."""

from pathlib import Path
from typing import ClassVar

from pydantic import PrivateAttr

from ucn.errors import UserError
from ucn.evaluation.methods.baselines.base import DenseDescriber
from ucn.matching.descriptors import Pixels
from ucn.matching.features import Dense
from ucn.training.config import NetworkConfig
from ucn.training.model import ImageConfig, Model, ModelConfig
from ucn.training.networks.googlenet import GoogLeNetUCN
from ucn.training.networks.published_weights import read_published


class GoogLeNet(DenseDescriber):
    """Describes images by inception_4a, 512 values a cell.

    The pooling layers before it have stride 1, as in the Universal Correspondence Network. So
    there is a cell at every fourth pixel, denser than in training on ImageNet.

    Raises:
        UserError: the file of weights is missing, damaged, or of another network.
    """

    title: ClassVar = "GoogLeNet 4a"

    weights: Path
    """Weights of torchvision's `googlenet`, .pth or .safetensors."""

    _model: Model = PrivateAttr()

    def model_post_init(self, context: object) -> None:
        network = GoogLeNetUCN(head=False)
        try:
            network.load_published(read_published(self.weights))
        except ValueError as error:
            raise UserError(f"{self.weights}: {error}") from error
        config = ModelConfig(
            network=NetworkConfig(name="googlenet", options={"head": False}, weights=self.weights),
            stride=network.stride,
            offset=network.offset,
            descriptor_dimension=network.dimension,
            image=ImageConfig(channels=network.channels),
        )
        self._model = Model(config, network.eval())

    def describe_map(self, image: Pixels) -> Dense:
        return self._model.describe_map(image)
