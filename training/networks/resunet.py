"""Open-UCN's ResUNets: residual U-nets with features at every pixel, here centred on it.

Choy and Lee, "Open Universal Correspondence Network" (github.com/chrischoy/open-ucn, 2019),
``model/resunet.py``; the network is that of Choy, Park and Koltun, "Fully Convolutional Geometric
Features", ICCV 2019. The parameters have the names and shapes of the published checkpoints.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ucn.training.config import Option
from ucn.training.networks.base import DenseNetwork, load_exactly


class Variant(NamedTuple):
    """Widths and depth of a ResUNet.

    Attributes:
        down: channels at strides 1, 2, 4 and 8 on the way down.
        up: channels of the head, and at strides 1, 2 and 4 on the way up.
        depth: residual blocks at each of the seven stages.
    """

    down: tuple[int, ...]
    up: tuple[int, ...]
    depth: int = 1


VARIANTS = {
    "BN2": Variant((32, 64, 128, 256), (32, 64, 64, 128)),
    "BN2B": Variant((32, 64, 128, 256), (64, 64, 64, 64)),
    "BN2C": Variant((32, 64, 128, 256), (64, 64, 64, 128)),
    "BN2D": Variant((32, 64, 128, 256), (64, 64, 128, 128)),
    "BN2D2": Variant((32, 64, 128, 256), (128, 128, 128, 128)),
    "BN2D3": Variant((32, 64, 128, 256), (128, 128, 192, 192)),
    "BN2E": Variant((128, 128, 128, 256), (64, 128, 128, 128)),
    "BN2F": Variant((16, 32, 64, 128), (16, 32, 64, 128)),
    "BN2G": Variant((128, 128, 192, 256), (128, 128, 192, 256)),
    "BN2G2": Variant((128, 128, 192, 256), (192, 128, 192, 256)),
    "BN2G3": Variant((128, 128, 192, 256), (192, 128, 192, 192)),
    "BN2H": Variant((128, 128, 192, 256), (128, 128, 192, 256), depth=2),
}
"""By the names of Open-UCN's classes, without their ``ResUNet``."""

PUBLISHED_SHIFT = 7
"""Pixels by which Open-UCN's coarsest features are off centre: 4 + 2 + 1."""


class ResUNetUCN(DenseNetwork):
    """Down to stride 8 and back to stride 1, with a skip connection at each level.

    Cell j of a stride-2 convolution (3x3, padding 1) lies on cell 2j of the level below. A
    transposed one (3x3, stride 2) without padding puts cell j at 2j + 1, so that in Open-UCN every
    level on the way up is a cell off the skip connection that it is joined with, and features that
    come from stride 8 describe the pixel 7 to the left of and above theirs. With padding 1 they
    meet, and the receptive field is centred.

    Args:
        variant: one of `VARIANTS`.
        dimension: descriptor length D; 64 in the published checkpoint, 96 recommended.
        centred: False keeps Open-UCN's geometry, and gives its features exactly: to use its
            checkpoints without further training. They were trained to describe the pixel that
            they lie on, from a context that is up to `PUBLISHED_SHIFT` pixels off it.

    Raises:
        ValueError: no such variant, or no positive dimension.
    """

    stride = 1
    offset = 0.0
    channels = 1

    def __init__(
        self, variant: str = "BN2D2", dimension: int = 64, *, centred: bool = True
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"no variant {variant!r}; choose from {', '.join(VARIANTS)}")
        if dimension < 1:
            raise ValueError(f"dimension {dimension} is below 1")
        self.variant, self.dimension, self.centred = variant, dimension, centred
        down, up, depth = VARIANTS[variant]
        self.receptive_field = receptive_field(depth, 0 if centred else PUBLISHED_SHIFT)
        padding = 1 if centred else 0
        self.conv1 = nn.Conv2d(1, down[0], 3, 1, 1, bias=False)
        self.norm1, self.blocks1 = _norm_and_blocks(down[0], depth)
        self.conv2 = nn.Conv2d(down[0], down[1], 3, 2, 1, bias=False)
        self.norm2, self.blocks2 = _norm_and_blocks(down[1], depth)
        self.conv3 = nn.Conv2d(down[1], down[2], 3, 2, 1, bias=False)
        self.norm3, self.blocks3 = _norm_and_blocks(down[2], depth)
        self.conv4 = nn.Conv2d(down[2], down[3], 3, 2, 1, bias=False)
        self.norm4, self.blocks4 = _norm_and_blocks(down[3], depth)
        self.conv4_tr = nn.ConvTranspose2d(down[3], up[3], 3, 2, padding, bias=False)
        self.norm4_tr, self.blocks4_tr = _norm_and_blocks(up[3], depth)
        self.conv3_tr = nn.ConvTranspose2d(down[2] + up[3], up[2], 3, 2, padding, bias=False)
        self.norm3_tr, self.blocks3_tr = _norm_and_blocks(up[2], depth)
        self.conv2_tr = nn.ConvTranspose2d(down[1] + up[2], up[1], 3, 2, padding, bias=False)
        self.norm2_tr, self.blocks2_tr = _norm_and_blocks(up[1], depth)
        self.conv1_tr = nn.Conv2d(down[0] + up[1], up[0], 1, bias=False)
        self.final = nn.Conv2d(up[0], dimension, 1)
        self.apply(_initialise)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """See `DenseNetwork.forward`; h = H, w = W."""
        s1 = _stage(self.conv1(images_BCHW - 0.5), self.norm1, self.blocks1)
        s2 = _stage(self.conv2(s1), self.norm2, self.blocks2)
        s4 = _stage(self.conv3(s2), self.norm3, self.blocks3)
        s8 = _stage(self.conv4(s4), self.norm4, self.blocks4)
        up4 = self._up(s8, s4, self.conv4_tr, self.norm4_tr, self.blocks4_tr)
        up2 = self._up(up4, s2, self.conv3_tr, self.norm3_tr, self.blocks3_tr)
        up1 = self._up(up2, s1, self.conv2_tr, self.norm2_tr, self.blocks2_tr)
        features = self.final(torch.relu_(self.conv1_tr(up1)))
        return F.normalize(features.float(), dim=1)

    def _up(
        self,
        x: Tensor,
        skip: Tensor,
        conv: nn.ConvTranspose2d,
        norm: nn.BatchNorm2d,
        blocks: nn.Sequential,
    ) -> Tensor:
        height, width = skip.shape[-2:]
        y = _stage(conv(x, [height, width] if self.centred else None), norm, blocks)
        return torch.cat((y[..., :height, :width], skip), dim=1)

    @classmethod
    def published_options(cls, state: Mapping[str, Tensor]) -> dict[str, Option]:
        """The variant and dimension of an Open-UCN checkpoint, in Open-UCN's geometry."""
        variant, dimension = published_variant(state)
        return {"variant": variant, "dimension": dimension, "centred": False}

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Load the ``state_dict`` of an Open-UCN checkpoint.

        The names are this module's own; a leading ``module.`` (``nn.DataParallel``) is dropped.
        They give Open-UCN's features where ``centred`` is False; a centred network can only start
        its training from them.

        Raises:
            ValueError: it is of another variant or dimension, which is named, or no ResUNet.
        """
        variant, dimension = published_variant(state)
        if (variant, dimension) != (self.variant, self.dimension):
            raise ValueError(
                f"the weights are of variant {variant}, dimension {dimension}; the network is of "
                f"variant {self.variant}, dimension {self.dimension}"
            )
        load_exactly(self, _without_prefix(state), f"Open-UCN's {variant}")


def receptive_field(depth: int, shift: int) -> int:
    """Width of the square, centred on a pixel, that its features depend on.

    Args:
        depth: residual blocks at each stage, of two 3x3 convolutions.
        shift: of the coarsest features against the pixel.

    Returns:
        Pixels; the most over the eight places that a pixel can have in a cell of stride 8.
    """
    blocks = sum(2 * depth * stride for stride in (1, 2, 4, 8, 4, 2, 1))
    convolutions = 1 + sum(2 * stride for stride in (1, 2, 4))
    return 2 * (blocks + convolutions + shift) + 1


def published_variant(state: Mapping[str, Tensor]) -> tuple[str, int]:
    """Tell the variant and the dimension of a checkpoint of Open-UCN from its shapes.

    Raises:
        ValueError: it is of no variant.
    """
    state = _without_prefix(state)
    try:
        found = Variant(
            down=_widths(state, ("conv1", "conv2", "conv3", "conv4"), 0),
            up=_widths(state, ("conv1_tr",), 0)
            + _widths(state, ("conv2_tr", "conv3_tr", "conv4_tr"), 1),
            depth=len({name.split(".")[1] for name in state if name.startswith("blocks1.")}),
        )
        dimension = state["final.weight"].shape[0]
    except (KeyError, IndexError) as error:
        raise ValueError("the weights are of no ResUNet of Open-UCN") from error
    for name, variant in VARIANTS.items():
        if variant == found:
            return name, dimension
    raise ValueError(f"the weights are of an unknown ResUNet: {found}")


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("module."): value for name, value in state.items()}


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.bn1(self.conv1(x)))
        return torch.relu_(self.bn2(self.conv2(y)) + x)


def _norm_and_blocks(channels: int, depth: int) -> tuple[nn.BatchNorm2d, nn.Sequential]:
    return nn.BatchNorm2d(channels), nn.Sequential(*(_Block(channels) for _ in range(depth)))


def _stage(x: Tensor, norm: nn.BatchNorm2d, blocks: nn.Sequential) -> Tensor:
    features: Tensor = blocks(torch.relu_(norm(x)))
    return features


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


def _widths(state: Mapping[str, Tensor], layers: tuple[str, ...], axis: int) -> tuple[int, ...]:
    return tuple(state[f"{layer}.weight"].shape[axis] for layer in layers)
