"""Convolution through a spatial transformer of its own at every location.

Choy et al., "Universal Correspondence Network", NIPS 2016, section 3.2. The paper samples a k x k
patch for each location, lays the patches out side by side in a map k times as high and wide, and
convolves that with stride k. Here the patches of a part of the map are sampled and multiplied at a
time, once for the result and once more for its gradient, so that all there is at once is about as
large as the map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ucn.training.networks.local_warps import WARPS, kernel_taps


class SpatialTransformerConv2d(nn.Conv2d):
    """A convolution, padded with zeros to keep its size, whose taps move with the image.

    A net of 1x1 convolutions (``localisation``: 32, ReLU, 32, ReLU, parameters) tells at each
    location how its k x k taps are transformed. It starts from the identity, with the plain
    convolution's values, and the kernel is named as there.

    Args:
        kernel: k, odd and at least 3.
        warp: one of `WARPS`.

    Raises:
        ValueError: no such warp, or another kernel.
    """

    taps_K2: Tensor
    basis_QK2: Tensor

    def __init__(self, channels_in: int, channels_out: int, kernel: int, warp: str) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
        if warp not in WARPS:
            raise ValueError(f"no transformer {warp!r}; choose from {', '.join(WARPS)}")
        self.warp = warp
        last = nn.Conv2d(32, WARPS[warp].num_parameters, 1)
        for value in last.parameters():
            nn.init.zeros_(value)
        self.localisation = nn.Sequential(
            nn.Conv2d(channels_in, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 1), nn.ReLU(), last
        )
        taps_K2 = kernel_taps(kernel)
        self.register_buffer("taps_K2", taps_K2, persistent=False)
        self.register_buffer("basis_QK2", WARPS[warp].basis(taps_K2), persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Convolve a map [B, C, H, W] of any size, to [B, O, H, W].

        The positions are float32 or better, under autocast too.
        """
        with torch.autocast(x_BCHW.device.type, enabled=False):
            x = x_BCHW.to(torch.promote_types(x_BCHW.dtype, torch.float32))
            coefficients_BQHW = WARPS[self.warp].coefficients(self.localisation(x))
        return transformed_convolution(
            x, self.weight, self.taps_K2.to(x), self.basis_QK2.to(x), coefficients_BQHW
        )


def transformed_convolution(
    x_BCHW: Tensor,
    weight_OCkk: Tensor,
    taps_K2: Tensor,
    basis_QK2: Tensor,
    coefficients_BQHW: Tensor,
) -> Tensor:
    """Convolve, with the taps of each location where its warp puts them.

    Values between cells are bilinear, and fall to zero over the cell beyond the map. On a cell,
    where the bilinear surface has an edge, the gradient is the one to the right and down.

    Args:
        x_BCHW, taps_K2, basis_QK2, coefficients_BQHW: float32 or float64; the K = k * k taps, and
            how the coefficients move them: see `local_warps`.
        weight_OCkk: the kernel.

    Returns:
        [B, O, H, W], channels last; of autocast's dtype where that is on.
    """
    batch, channels, height, width = x_BCHW.shape
    num_taps = len(taps_K2)
    rows_PC = x_BCHW.permute(0, 2, 3, 1).reshape(-1, channels)
    coefficients_PQ = coefficients_BQHW.permute(0, 2, 3, 1).flatten(0, 2)
    weight_KCO = weight_OCkk.permute(2, 3, 1, 0).flatten(0, 2)

    def convolve_part(
        rows_PC: Tensor, weight_KCO: Tensor, coefficients_NQ: Tensor, first: int
    ) -> Tensor:
        with torch.autocast(rows_PC.device.type, enabled=False):
            moved_NK2 = (coefficients_NQ @ basis_QK2.flatten(1)).view(-1, num_taps, 2)
            cells_NK4, shares_NK4 = corners(taps_K2 + moved_NK2, first, height, width)
            sampled_NKC = F.embedding_bag(
                cells_NK4.flatten(0, 1),
                rows_PC,
                per_sample_weights=shares_NK4.flatten(0, 1),
                mode="sum",
            )
        return sampled_NKC.view(-1, num_taps * channels) @ weight_KCO

    # In so many parts, what is sampled at once is as large as the map.
    size = -(-len(coefficients_PQ) // num_taps)
    convolved_PO = torch.cat(
        [
            checkpoint(
                convolve_part,
                rows_PC,
                weight_KCO,
                coefficients_NQ,
                part * size,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            for part, coefficients_NQ in enumerate(torch.split(coefficients_PQ, size))
        ]
    )
    return convolved_PO.view(batch, height, width, -1).permute(0, 3, 1, 2)


def corners(offsets_NK2: Tensor, first: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Find the four cells around the taps of successive locations.

    Args:
        offsets_NK2: (x, y) of the taps from their location, in cells.
        first: number of the first location, counted row by row through the images of a batch.

    Returns:
        numbers of the cells, int32 [N, K, 4], all in the location's own image, and their bilinear
        shares [N, K, 4], those of cells outside of it 0.
    """
    # A tap this far is outside whatever its location, and its cell fits an integer.
    limit = max(height, width) + 1
    offsets_NK2 = offsets_NK2.clamp(-limit, limit)
    last = first + len(offsets_NK2)
    number_N1 = torch.arange(first, last, dtype=torch.int32, device=offsets_NK2.device)[:, None]
    image_N1 = number_N1 // (height * width)
    x_NK2, share_x_NK2 = _neighbours(number_N1 % width, offsets_NK2[..., 0], width)
    y_NK2, share_y_NK2 = _neighbours(number_N1 // width % height, offsets_NK2[..., 1], height)
    rows_NK2 = image_N1[..., None] * height + y_NK2
    cells_NK22 = rows_NK2[..., :, None] * width + x_NK2[..., None, :]
    shares_NK22 = share_y_NK2[..., :, None] * share_x_NK2[..., None, :]
    return cells_NK22.flatten(2), shares_NK22.flatten(2)


def _neighbours(start_N1: Tensor, offset_NK: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cells before and after a coordinate, moved into 0 .. size - 1, and their linear shares."""
    whole_NK = offset_NK.detach().floor()
    fraction_NK = offset_NK - whole_NK
    before_NK = start_N1 + whole_NK.int()
    cells_NK2 = torch.stack([before_NK, before_NK + 1], dim=2)
    shares_NK2 = torch.stack([1 - fraction_NK, fraction_NK], dim=2)
    inside_NK2 = (cells_NK2 >= 0) & (cells_NK2 < size)
    return cells_NK2.clamp(0, size - 1), shares_NK2 * inside_NK2
