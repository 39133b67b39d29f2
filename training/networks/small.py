"""A small network for training on a CPU in minutes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.base import DenseNetwork


class SmallUCN(DenseNetwork):
    """Stride-4 features with context: a fine branch, and dilated coarse ones at stride 8 and 16.

    Even kernels (4, stride 2, padding 1) put the cells of each level in the middle of the cells
    below, so that the map covers the image evenly: offset 1.5 at stride 4, 3.5 at 8, 7.5 at 16.
    The way back is bilinear: learned enlargements (pixel shuffle) give neighbouring cells features
    of their own and match worse by 10 points of PCK@3. Batch normalisation costs half of what
    group normalisation does on a CPU, and nothing of it depends on the size of the image once
    training is over. Moving the image by 16 pixels moves the map by four cells exactly; moving it
    by 4, by one cell approximately.

    Args:
        dimension: descriptor length D.
        width: channels at stride 4; half of it at stride 2, twice at strides 8 and 16.

    Raises:
        ValueError: the dimension is below 1, or the width below 2.
    """

    stride = 4
    offset = 1.5
    channels = 1
    receptive_field = 418
    """2 x (10.5 to the cells at stride 8, 48 in their context, 12 to those at stride 16, 96 there,
    12 back to stride 8, 16 there, 6 back to stride 4, 8 there) + 1."""

    def __init__(self, dimension: int = 64, width: int = 64) -> None:
        super().__init__()
        if dimension < 1 or width < 2:
            raise ValueError(f"dimension {dimension} is below 1, or width {width} below 2")
        self.dimension = dimension
        self.down2 = _down(1, width // 2)
        self.down4 = _down(width // 2, width)
        self.down8 = _down(width, 2 * width)
        self.context = nn.Sequential(*(_Residual(2 * width, dilation=d) for d in (1, 2)))
        self.down16 = _down(2 * width, 2 * width)
        self.wide = nn.Sequential(*(_Residual(2 * width, dilation=d) for d in (1, 2)))
        self.wide_lateral = nn.Conv2d(2 * width, 2 * width, 1)
        self.mix = _Residual(2 * width, dilation=1)
        self.lateral = nn.Conv2d(2 * width, width, 1)
        self.fuse = _Residual(width, dilation=1)
        self.head = nn.Conv2d(width, dimension, 1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """See `DenseNetwork.forward`; h = ceil(H / 4)."""
        height, width = images_BCHW.shape[-2:]
        padded = F.pad(images_BCHW, (0, -width % 16, 0, -height % 16), mode="replicate")
        quarter = self.down4(self.down2(padded * 2 - 1))
        context = self.context(self.down8(quarter))
        wide = self.wide_lateral(self.wide(self.down16(context)))
        context = self.lateral(self.mix(context + _twice(wide)))
        features = self.head(self.fuse(quarter + _twice(context)))
        features = features[..., : -(-height // 4), : -(-width // 4)]
        return F.normalize(features.float(), dim=1)


class _Residual(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, dilation, dilation, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, dilation, dilation, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.norm1(self.conv1(x)))
        return torch.relu_(self.norm2(self.conv2(y)) + x)


def _down(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 4, 2, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def _twice(x_BCHW: Tensor) -> Tensor:
    """Enlarge to twice the size, bilinearly: cells a quarter of the way between those below.

    In parts that torch.compile takes the gradient of; it takes none of some of its own
    enlargements.
    """
    if not torch.compiler.is_compiling():
        return F.interpolate(x_BCHW, scale_factor=2, mode="bilinear", align_corners=False)
    for axis in (2, 3):
        size = x_BCHW.shape[axis]
        first, last = x_BCHW.narrow(axis, 0, 1), x_BCHW.narrow(axis, size - 1, 1)
        before = torch.cat([first, x_BCHW.narrow(axis, 0, size - 1)], axis)
        after = torch.cat([x_BCHW.narrow(axis, 1, size - 1), last], axis)
        near = 0.75 * x_BCHW
        x_BCHW = torch.stack([near + 0.25 * before, near + 0.25 * after], axis + 1)
        x_BCHW = x_BCHW.flatten(axis, axis + 1)
    return x_BCHW
