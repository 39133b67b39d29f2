"""The paper's network: GoogLeNet up to inception_4a, at stride 4, with its spatial transformer.

Choy et al., "Universal Correspondence Network", NIPS 2016, section 3 and its appendix.
The parameters are named as in torchvision's ``googlenet``, whose ImageNet weights fit. They come
from TensorFlow's: batch normalisation stands in place of local response normalisation, and the
branch that the GoogLeNet paper gives 5x5 kernels (``branch3``) has 3x3 ones, with and without the
transformer.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ucn.training.config import Option
from ucn.training.networks.base import DenseNetwork, load_exactly
from ucn.training.networks.spatial_transformer import SpatialTransformerConv2d

NOT_OURS = (
    *(f"inception{block}." for block in ("4b", "4c", "4d", "4e", "5a", "5b")),
    *("aux1.", "aux2.", "fc."),
)
"""What torchvision's ``googlenet`` has after inception_4a."""


class GoogLeNetUCN(DenseNetwork):
    """GoogLeNet to inception_4a with the second and third pooling at stride 1.

    ``conv1`` (7x7, stride 2, padding 3) has its cells at pixels 2j; ``maxpool1`` (3x3, stride 2,
    no padding) is centred on its cells 2j + 1: offset 2 at stride 4.

    Args:
        dimension: descriptor length D of the head, a 1x1 convolution; 128 in the published
            derivative.
        transformer: how the taps of inception_4a's spatial kernels are transformed at each
            location: ``none``, or one of `WARPS`. The receptive field is that of the identity, at
            which they start; each cell that a tap moves adds 4 pixels to both sides.
        head: False leaves the head out: descriptors are the 512 values of inception_4a. So
            ImageNet weights, which have no head, can be used without training.

    Raises:
        ValueError: no such transformer.
    """

    stride = 4
    offset = 2.0
    # conv1 and maxpool1 see 5 pixels to either side; conv3, maxpool2, inception_3a, inception_3b,
    # maxpool3 and inception_4a a cell each.
    receptive_field = 2 * (5 + 6 * 4) + 1
    channels = 3
    pretraining = "ImageNet weights of torchvision's googlenet"

    def __init__(
        self, dimension: int = 128, transformer: str = "none", *, head: bool = True
    ) -> None:
        super().__init__()
        self.dimension = dimension if head else 512
        self.conv1 = _ConvNorm(3, 64, 7, stride=2)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = _ConvNorm(64, 64, 1)
        self.conv3 = _ConvNorm(64, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, stride=1, padding=1)
        self.inception3a = _Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = _Inception(256, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = nn.MaxPool2d(3, stride=1, padding=1)
        self.inception4a = _Inception(480, 192, 96, 208, 16, 48, 64, transformer)
        self.head = nn.Conv2d(512, dimension, 1) if head else nn.Identity()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """See `DenseNetwork.forward`; grey images are taken three times."""
        height, width = images_BCHW.shape[-2:]
        small = (0, max(0, 8 - width), 0, max(0, 8 - height))
        # From -1 to 1, as the ImageNet weights were trained (torchvision's ``transform_input``).
        images = F.pad(images_BCHW, small, mode="replicate") * 2 - 1
        x = self.maxpool1(self.conv1(images.expand(-1, 3, -1, -1)))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        features = self.head(self.inception4a(x))
        features = features[..., : -(-height // 4), : -(-width // 4)]
        return F.normalize(features.float(), dim=1)

    @classmethod
    def published_options(cls, state: Mapping[str, Tensor]) -> dict[str, Option]:
        """inception_4a itself: torchvision's weights have no head."""
        return {"head": False}

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Load the state dict of torchvision's ``googlenet``, such as its ImageNet weights.

        The descriptors' layer and the transformers stay as they are, since it has none; what it
        has after inception_4a is left out (`NOT_OURS`).

        Raises:
            ValueError: a tensor is missing, has another shape, or is not of that network.
        """
        given = {name: value for name, value in state.items() if not name.startswith(NOT_OURS)}
        own = tuple(name for name in self.state_dict() if ".localisation." in name)
        load_exactly(self, given, "torchvision's googlenet", ("head.", *own))


class _ConvNorm(nn.Module):
    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        transformer: str = "none",
    ) -> None:
        super().__init__()
        self.conv = (
            nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)
            if transformer == "none"
            else SpatialTransformerConv2d(channels_in, channels_out, kernel, transformer)
        )
        self.bn = nn.BatchNorm2d(channels_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.bn(self.conv(x)))


class _Inception(nn.Module):
    def __init__(
        self,
        channels: int,
        c1: int,
        c3_reduce: int,
        c3: int,
        c5_reduce: int,
        c5: int,
        pool: int,
        transformer: str = "none",
    ) -> None:
        super().__init__()
        self.branch1 = _ConvNorm(channels, c1, 1)
        self.branch2 = nn.Sequential(
            _ConvNorm(channels, c3_reduce, 1),
            _ConvNorm(c3_reduce, c3, 3, transformer=transformer),
        )
        self.branch3 = nn.Sequential(
            _ConvNorm(channels, c5_reduce, 1),
            _ConvNorm(c5_reduce, c5, 3, transformer=transformer),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), _ConvNorm(channels, pool, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x) for branch in branches], dim=1)
