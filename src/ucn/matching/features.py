"""Conversion between image pixels and feature cells, shared by all networks.

Cell j of a feature map lies at pixel ``j * stride + offset``. Each network defines both numbers.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def pixels_to_cells(points: Tensor, stride: float, offset: float) -> Tensor:
    """Maps pixel coordinates to fractional cell coordinates, elementwise."""
    return (points - offset) / stride


def cells_to_pixels(cells: Tensor, stride: float, offset: float) -> Tensor:
    """Maps cell coordinates to pixel coordinates, elementwise."""
    return cells * stride + offset


def cell_centres(height: int, width: int, stride: float, offset: float) -> Tensor:
    """Pixel positions (x, y) of all cells of a feature map, row by row.

    Returns:
        float32 [height * width, 2].
    """
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return cells_to_pixels(torch.stack([x, y], dim=-1).reshape(-1, 2).float(), stride, offset)


def sample_features(features: Tensor, points: Tensor, stride: float, offset: float) -> Tensor:
    """Samples features at sub-pixel positions: bilinear, clamped at the border, L2-normalised.

    Args:
        features: [D, H, W], or a batch [B, D, H, W].
        points: [N, 2] pixels (x, y), or a batch [B, N, 2].

    Returns:
        [N, D] or [B, N, D], of unit length.
    """
    if features.dim() == 3:
        return sample_features(features[None], points[None], stride, offset)[0]
    if features.dim() != 4 or points.dim() != 3 or points.shape[-1] != 2:
        raise ValueError(f"no features {tuple(features.shape)} at points {tuple(points.shape)}")
    height, width = features.shape[-2:]
    last = points.new_tensor([max(width - 1, 1), max(height - 1, 1)])
    grid = pixels_to_cells(points, stride, offset) * (2 / last) - 1
    sampled_BDN1 = F.grid_sample(
        features, grid[:, :, None], mode="bilinear", padding_mode="border", align_corners=True
    )
    return F.normalize(sampled_BDN1[..., 0].transpose(1, 2), dim=-1)
