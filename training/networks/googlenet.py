"""The paper's network: GoogLeNet up to inception_4a, at stride 4, without the transformer.

Choy et al., "Universal Correspondence Network", NIPS 2016, section 3 and its appendix.
The parameters are named as in torchvision's ``googlenet``, whose ImageNet weights fit: batch
normalisation stands in place of local response normalisation, and the branch that the GoogLeNet
paper gives 5x5 kernels has 3x3 ones.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.base import DenseNetwork

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class GoogLeNetUCN(DenseNetwork):
    """GoogLeNet to inception_4a with the second and third pooling at stride 1.

    ``conv1`` (7x7, stride 2, padding 3) has its cells at pixels 2j; ``maxpool1`` (3x3, stride 2,
    no padding) is centred on its cells 2j + 1: offset 2 at stride 4.

    Args:
        dimension: descriptor length D; 128 in the published derivative.
    """

    stride = 4
    offset = 2.0
    channels = 3
    mean: Tensor
    std: Tensor

    def __init__(self, dimension: int = 128) -> None:
        super().__init__()
        self.dimension = dimension
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), False)
        self.conv1 = _ConvNorm(3, 64, 7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = _ConvNorm(64, 64, 1)
        self.conv3 = _ConvNorm(64, 192, 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=1, padding=1)
        self.inception3a = _Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = _Inception(256, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = nn.MaxPool2d(3, stride=1, padding=1)
        self.inception4a = _Inception(480, 192, 96, 208, 16, 48, 64)
        self.head = nn.Conv2d(512, dimension, 1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """See `DenseNetwork.forward`; grey images are taken three times."""
        height, width = images_BCHW.shape[-2:]
        small = (0, max(0, 8 - width), 0, max(0, 8 - height))
        images = F.pad(images_BCHW, small, mode="replicate")
        x = self.maxpool1(self.conv1((images - self.mean) / self.std))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        features = self.head(self.inception4a(x))
        features = features[..., : -(-height // 4), : -(-width // 4)]
        return F.normalize(features.float(), dim=1)


class _ConvNorm(nn.Module):
    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.bn(self.conv(x)))


class _Inception(nn.Module):
    def __init__(
        self, channels: int, c1: int, c3_reduce: int, c3: int, c5_reduce: int, c5: int, pool: int
    ) -> None:
        super().__init__()
        self.branch1 = _ConvNorm(channels, c1, 1)
        self.branch2 = nn.Sequential(
            _ConvNorm(channels, c3_reduce, 1), _ConvNorm(c3_reduce, c3, 3, padding=1)
        )
        self.branch3 = nn.Sequential(
            _ConvNorm(channels, c5_reduce, 1), _ConvNorm(c5_reduce, c5, 3, padding=1)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), _ConvNorm(channels, pool, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x) for branch in branches], dim=1)
