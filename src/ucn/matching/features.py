"""Feature maps: where their cells lie in the image, and the descriptors between the cells.

Cell j of a feature map lies at pixel ``j * stride + offset``. Each network defines both numbers.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ucn.matching.descriptors import Floats, Pixels
from ucn.matching.spline import read_spline, resample_spline


class Grid(NamedTuple):
    """Size of a feature map, and the pixel positions of its cells."""

    height: int
    width: int
    stride: float
    offset: float


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


class Dense(NamedTuple):
    """A feature map [D, h, w] of unit descriptors, and the positions of its cells."""

    map_DHW: Tensor
    grid: Grid

    @staticmethod
    def of(map_DHW: Tensor, stride: float, offset: float) -> "Dense":
        """A feature map with cells at pixels ``j * stride + offset``."""
        height, width = map_DHW.shape[1:]
        return Dense(map_DHW, Grid(height, width, stride, offset))


@dataclass(frozen=True, eq=False)
class Features:
    """Dense descriptors of an image. They are computed once, and matched to many images.

    Attributes:
        image: uint8 [H, W] or [H, W, 3] RGB.
        map_HWD: contiguous feature map. With several levels a cell holds the descriptors of all
            levels one after the other (`ucn.matching.scales`).
        grid: positions of the cells.
        levels: number of scales at which the image is described.
    """

    image: Pixels
    map_HWD: Tensor
    grid: Grid
    levels: int = 1
    _lattices: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)

    @property
    def dense(self) -> Dense:
        """The feature map, and the positions of its cells."""
        return Dense(self.map_HWD.permute(2, 0, 1), self.grid)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image, pixels."""
        height, width = self.image.shape[:2]
        return width, height

    def num_bytes(self, step_px: float) -> int:
        """Memory of the image, its descriptors, and those on a lattice, about."""
        every, parts = self._spacing(step_px)
        return self.map_HWD.nbytes * (every**2 + parts**2) // every**2 + self.image.nbytes

    def at(self, points_N2: NDArray[np.floating] | Tensor) -> Floats:
        """Descriptors of points.

        Args:
            points_N2: pixels (x, y); the centre of the top-left pixel is (0, 0).

        Returns:
            float32 [N, D] of unit length: the nearest descriptor is the match.
        """
        described: Floats = self.read(points_N2).cpu().numpy()
        return described

    def read(self, points_N2: NDArray[np.floating] | Tensor) -> Tensor:
        """As :meth:`at`, on the device of the feature map."""
        cells_N2 = pixels_to_cells(self._points(points_N2), self.grid.stride, self.grid.offset)
        return read_spline(self.map_HWD, cells_N2)

    def read_sharp(self, points_N2: NDArray[np.floating] | Tensor) -> Tensor:
        """Bilinear readings, as in training: float32 [N, D] of unit length.

        As queries they find more points than smoothed descriptors.
        """
        points = self._points(points_N2).float()
        return sample_features(self.dense.map_DHW, points, self.grid.stride, self.grid.offset)

    def _points(self, points_N2: NDArray[np.floating] | Tensor) -> Tensor:
        return torch.as_tensor(points_N2, dtype=torch.float64, device=self.map_HWD.device)

    def lattice(self, step_px: float) -> tuple[Tensor, Grid]:
        """Descriptors [M, D] on a lattice of about ``step_px`` pixels, row by row, and its grid.

        The step is rounded to whole cells, or to a whole part of a cell.
        """
        every, parts = self._spacing(step_px)
        if (every, parts) not in self._lattices:
            self._lattices[every, parts] = resample_spline(self.map_HWD, every, parts)
        height, width, dimension = self._lattices[every, parts].shape
        grid = Grid(height, width, self.grid.stride * every / parts, self.grid.offset)
        return self._lattices[every, parts].view(-1, dimension), grid

    def _spacing(self, step_px: float) -> tuple[int, int]:
        """A step as a number of cells, and a number of positions a cell; one of them is 1."""
        stride = self.grid.stride
        return max(1, round(step_px / stride)), max(1, round(stride / step_px))
