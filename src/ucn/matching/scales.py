"""Matching across scale changes: images are described and compared at several scales.

Each point has a stack of descriptors, one per level. Levels are half an octave apart, centred on
the image's own size. For a relative scale of k levels, level l + k of image 0 is compared with
level l of image 1. The similarity is the mean over the levels that overlap. The best match is
searched over all positions and all relative scales up to half of the levels, in both directions.
With one level this is plain matching.
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ucn.matching.descriptors import Describe, Floats, Pixels
from ucn.matching.features import Dense, Features, Grid, cell_centres, sample_features
from ucn.matching.keypoints import grid_points
from ucn.matching.search import search

LEVEL = 2**0.5
"""Scale factor between adjacent levels."""


def image_levels(image: Pixels, levels: int) -> list[tuple[Pixels, NDArray[np.float64]]]:
    """Scales an image to each level, the smallest first.

    Args:
        image: uint8 [H, W] or [H, W, 3].
        levels: number of levels, odd.

    Returns:
        The scaled images, each with its scale factors in x and y.
    """
    height, width = image.shape[:2]
    scaled: list[tuple[Pixels, NDArray[np.float64]]] = []
    for level in range(-(levels // 2), levels // 2 + 1):
        size = tuple(max(1, round(side * LEVEL**level)) for side in (width, height))
        way = cv2.INTER_AREA if level < 0 else cv2.INTER_LINEAR
        pixels = image if level == 0 else cv2.resize(image, size, interpolation=way)
        scaled.append((np.asarray(pixels, np.uint8), np.divide(size, (width, height))))
    return scaled


def level_points(points_N2: Floats, scale_2: NDArray[np.float64]) -> Floats:
    """Maps pixels to a scaled image. The outer edges of the images coincide, not the centres."""
    scaled_N2: Floats = ((points_N2 + 0.5) * scale_2 - 0.5).astype(np.float32)
    return scaled_N2


DescribeMap = Callable[[Pixels], Dense]
"""Describes an image densely, at its own scale."""
Extract = Callable[[Pixels], Features]
"""Describes an image densely, at all scales."""


def dense_descriptor(describe: Describe, step: int, device: str = "cpu") -> DescribeMap:
    """Describes an image at every ``step``-th pixel by a descriptor of points."""

    def describe_map(image: Pixels) -> Dense:
        height, width = image.shape[:2]
        grid = Grid(-(-height // step), -(-width // step), step, 0)
        rows_MD = torch.from_numpy(describe(image, grid_points(width, height, step)))
        map_HWD = rows_MD.view(grid.height, grid.width, -1).to(device)
        return Dense(map_HWD.permute(2, 0, 1), grid)

    return describe_map


def extract(image: Pixels, describe: DescribeMap, levels: int = 1) -> Features:
    """Describes an image at several scales, on the cells of its own scale.

    Args:
        image: uint8 [H, W] or [H, W, 3] RGB.
        describe: describes an image densely.
        levels: number of levels, odd.
    """
    if levels == 1:
        map_DHW, grid = describe(image)
        return Features(image, map_DHW.permute(1, 2, 0).contiguous(), grid)
    scaled = [(describe(pixels), scale_2) for pixels, scale_2 in image_levels(image, levels)]
    grid = scaled[levels // 2][0].grid
    centres_M2 = cell_centres(*grid).numpy()
    stacked_MD = torch.cat(
        [
            sample_features(
                map_DHW,
                torch.from_numpy(level_points(centres_M2, scale_2)).to(map_DHW.device),
                level_grid.stride,
                level_grid.offset,
            )
            for (map_DHW, level_grid), scale_2 in scaled
        ],
        dim=1,
    )
    stacked_HWD = stacked_MD.view(grid.height, grid.width, -1) / levels**0.5
    return Features(image, stacked_HWD, grid, levels)


def relative_scales(stacks_ND: Tensor, levels: int) -> Iterator[Tensor]:
    """Shifts stacks by each relative scale.

    The inner product of a shifted stack with a stack of the other image is the mean similarity
    over the levels that overlap.

    Args:
        stacks_ND: float32 [N, levels * D], of unit length.
        levels: number of levels.

    Yields:
        float32 [N, levels * D], for relative scales of -(levels // 2) to levels // 2 levels.
    """
    stacks_NLD = stacks_ND.reshape(len(stacks_ND), levels, stacks_ND.shape[1] // levels)
    for shift in range(-(levels // 2), levels // 2 + 1):
        if shift == 0:
            yield stacks_ND
            continue
        moved_NLD = torch.zeros_like(stacks_NLD)
        met = levels - abs(shift)
        first = max(0, shift)
        moved_NLD[:, first - shift : first - shift + met] = stacks_NLD[:, first : first + met]
        yield moved_NLD.flatten(1) * (levels / met)


def nearest_at_any_scale(
    stacks_ND: Tensor, references_MD: Tensor, levels: int, memory_mib: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the most similar of M stacks for each of N, over all relative scales.

    Args:
        stacks_ND, references_MD: float32 rows of unit length; M > 0.
        levels: number of levels.
        memory_mib: bound on the similarities held at once.

    Returns:
        index_N: int64; similarity_N: float32, the mean cosine over the levels that overlap; and
        scale_N: int64, the place of the best relative scale in :func:`relative_scales`.
    """
    found = [
        search(moved_ND, references_MD, memory_mib=memory_mib)
        for moved_ND in relative_scales(stacks_ND, levels)
    ]
    similarity_N, scale_N = torch.stack([one.similarity_N for one in found]).max(dim=0)
    index_N = torch.stack([one.index_N for one in found]).gather(0, scale_N[None])[0]
    return index_N, similarity_N, scale_N


def shift_stacks(stacks_ND: Tensor, levels: int, scale_N: Tensor) -> Tensor:
    """Shifts each stack by its own relative scale."""
    moved_KND = torch.stack(list(relative_scales(stacks_ND, levels)))
    return moved_KND[scale_N, torch.arange(len(scale_N), device=scale_N.device)]
