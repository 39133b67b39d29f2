"""A small network for training on a CPU in minutes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.base import DenseNetwork


class SmallUCN(DenseNetwork):
    """Stride-4 features with context: a fine branch, and a dilated coarse one at stride 8.

    Even kernels (4, stride 2, padding 1) put the cells of each level in the middle of the cells
    below, so that the map covers the image evenly: offset 1.5 at stride 4, 3.5 at stride 8.
    Batch normalisation costs half of what group normalisation does on a CPU, and nothing of it
    depends on the size of the image once training is over. Moving the image by 8 pixels moves the
    map by two cells exactly; moving it by 4, by one cell approximately.

    Args:
        dimension: descriptor length D.
        width: channels at stride 4; half of it at stride 2, twice at stride 8.

    Raises:
        ValueError: the dimension is below 1, or the width below 2.
    """

    stride = 4
    offset = 1.5
    channels = 1
    receptive_field = 274
    """2 x (1.5 + 3 + 6 to the cells at stride 8, 14 x 8 in their context, 6 and 2 x 4 back) + 1."""

    def __init__(self, dimension: int = 64, width: int = 64) -> None:
        super().__init__()
        if dimension < 1 or width < 2:
            raise ValueError(f"dimension {dimension} is below 1, or width {width} below 2")
        self.dimension = dimension
        self.down2 = _down(1, width // 2)
        self.down4 = _down(width // 2, width)
        self.down8 = _down(width, 2 * width)
        self.context = nn.Sequential(*(_Residual(2 * width, dilation=d) for d in (1, 2, 4)))
        self.lateral = nn.Conv2d(2 * width, width, 1)
        self.fuse = _Residual(width, dilation=1)
        self.head = nn.Conv2d(width, dimension, 1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """See `DenseNetwork.forward`; h = ceil(H / 4)."""
        height, width = images_BCHW.shape[-2:]
        padded = F.pad(images_BCHW, (0, -width % 8, 0, -height % 8), mode="replicate")
        quarter = self.down4(self.down2(padded * 2 - 1))
        context = self.lateral(self.context(self.down8(quarter)))
        context = F.interpolate(context, scale_factor=2, mode="bilinear", align_corners=False)
        features = self.head(self.fuse(quarter + context))
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
