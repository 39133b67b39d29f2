"""A small network for training on a CPU in minutes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ucn.training.networks.base import DenseNetwork


class SmallUCN(DenseNetwork):
    """Stride-2 features with context: what is described at stride 4 from dilated branches at
    stride 8 and 16 is enlarged, and corrected by what stride 2 sees.

    Even kernels (4, stride 2, padding 1) put the cells of each level in the middle of the cells
    below, so that the map covers the image evenly: offset 0.5 at stride 2, 1.5 at 4, 3.5 at 8,
    7.5 at 16. The way back is bilinear: learned enlargements (pixel shuffle) give neighbouring
    cells features of their own and match worse by 10 points of PCK@3. Batch normalisation costs
    half of what group normalisation does on a CPU, and nothing of it depends on the size of the
    image once training is over. Moving the image by 16 pixels moves the map by eight cells exactly;
    moving it by 2, by one cell approximately.

    Args:
        dimension: descriptor length D.
        width: channels at stride 4; half of it at stride 2, twice at strides 8 and 16.

    Raises:
        ValueError: the dimension is below 1, or the width below 2.
    """

    stride = 2
    offset = 0.5
    channels = 1
    receptive_field = 428
    """2 x (10.5 to the cells at stride 8, 48 in their context, 12 to those at stride 16, 96 there,
    12 back to stride 8, 16 there, 6 back to stride 4, 8 there, 3 back to stride 2, 2 there) + 1."""

    def __init__(self, dimension: int = 64, width: int = 64) -> None:
        super().__init__()
        if dimension < 1 or width < 2:
            raise ValueError(f"dimension {dimension} is below 1, or width {width} below 2")
        self.dimension = dimension
        self.down2 = _ConvNorm(1, width // 2, kernel=4, stride=2)
        self.down4 = _ConvNorm(width // 2, width, kernel=4, stride=2)
        self.down8 = _ConvNorm(width, 2 * width, kernel=4, stride=2)
        self.context = nn.Sequential(*(_Residual(2 * width, dilation=d) for d in (1, 2)))
        self.down16 = _ConvNorm(2 * width, 2 * width, kernel=4, stride=2)
        self.wide = nn.Sequential(*(_Residual(2 * width, dilation=d) for d in (1, 2)))
        self.wide_lateral = nn.Conv2d(2 * width, 2 * width, 1)
        self.mix = _Residual(2 * width, dilation=1)
        self.lateral = nn.Conv2d(2 * width, width, 1)
        self.fuse = _Residual(width, dilation=1)
        self.head = nn.Conv2d(width, dimension, 1)
        self.fine_lateral = nn.Conv2d(width, width // 2, 1)
        self.fine = _ConvNorm(width // 2, width // 2, kernel=3, stride=1)
        self.fine_head = nn.Conv2d(width // 2, dimension, 1, bias=False)
        # Training begins with what stride 4 tells alone.
        nn.init.zeros_(self.fine_head.weight)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """See `DenseNetwork.forward`; h = ceil(H / 2)."""
        height, width = images_BCHW.shape[-2:]
        padded = F.pad(images_BCHW, (0, -width % 16, 0, -height % 16), mode="replicate")
        half = self.down2(_channels_last(padded * 2 - 1))
        quarter = self.down4(half)
        context = self.context(self.down8(quarter))
        wide = self.wide_lateral(self.wide(self.down16(context)))
        context = self.lateral(self.mix(_twice(wide).add_(context)))
        fused = self.fuse(_twice(context).add_(quarter))
        fine = self.fine(_twice(self.fine_lateral(fused)).add_(half))
        features = _twice(self.head(fused)).add_(self.fine_head(fine))
        features = features[..., : -(-height // 2), : -(-width // 2)]
        return _unit(features)


class _Residual(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, dilation, dilation, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, dilation, dilation, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm1(self.conv1(x)).relu_()
        z: Tensor = self.norm2(self.conv2(y)).add_(x).relu_()
        return z


class _ConvNorm(nn.Sequential):
    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, kernel, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = self
        y: Tensor = norm(conv(x)).relu_()
        return y


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


def _channels_last(x_B1HW: Tensor) -> Tensor:
    """The same values as a view whose strides say that channels are last.

    Of one channel both layouts have the same bytes, so that `Tensor.contiguous` leaves the strides
    of the other, and all that is computed from it at stride 2 takes that layout, which is slower.
    """
    return x_B1HW[:, 0, :, :, None].movedim(-1, 1)


def _unit(features_BDHW: Tensor) -> Tensor:
    """float32 features of unit length, in place where no gradient is taken."""
    exact_BDHW = features_BDHW.float()
    return F.normalize(exact_BDHW, dim=1, out=None if torch.is_grad_enabled() else exact_BDHW)
