"""The loss and the hit ratio of a group of pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ucn.matching.features import Grid, cell_centres, sample_features
from ucn.training.config import TrainConfig
from ucn.training.data.pairs import Item
from ucn.training.losses import LOSSES, OVER_ALL, Direction
from ucn.training.mining import MINERS
from ucn.training.networks.base import DenseNetwork

HIT_SAMPLE = 64


@dataclass(frozen=True)
class GroupLoss:
    """Loss and hit ratio of one group of pairs.

    Attributes:
        loss: scalar with its graph, mean over the pairs.
        hit_ratio: scalar tensor: the fraction of the queries of both directions whose nearest
            feature among all searched positions lies within the exclusion radius of the truth.
            Measured on about `HIT_SAMPLE` queries a direction where the loss needs no search.
        per_pair_B: loss of each pair, detached.
    """

    loss: Tensor
    hit_ratio: Tensor
    per_pair_B: Tensor


def group_loss(
    network: Callable[[Tensor], Tensor],
    geometry: DenseNetwork,
    items: Sequence[Item],
    config: TrainConfig,
) -> GroupLoss:
    """Describe both images of all pairs in one pass, mine negatives, and compute the loss.

    Args:
        network: the module to call, which may be wrapped for distributed training.
        geometry: the network itself, for its stride and offset.
        items: pairs with images of one size.
    """
    device = next(geometry.parameters()).device
    images = torch.stack([item.images[side] for side in (0, 1) for item in items])
    images = images.to(device, non_blocking=True).float().div_(255)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.bfloat16):
        features_BDHW = network(images)
    stride = config.mining.search_stride
    # One grid for all pairs of a group, since they may be negatives of each other.
    searched = slice(items[0].seed % stride, None, stride)
    grid = _grid(features_BDHW[..., searched, searched], geometry, searched)
    sides = [
        [
            _side(item, side, features_DHW, geometry, searched, grid)
            for item, features_DHW in zip(items, maps_BDHW, strict=True)
        ]
        for side, maps_BDHW in enumerate(features_BDHW.chunk(2))
    ]
    losses: list[Tensor] = []
    hits: list[Tensor] = []
    for pair, item in enumerate(items):
        directions = _pair_directions(item, pair, sides, grid, config)
        losses.append(LOSSES[config.loss.name](directions, config.loss))
        hits.extend(direction.negatives.hit_N for direction in directions)
    per_pair_B = torch.stack(losses)
    hit_ratio = torch.cat(hits).float().mean().nan_to_num()
    return GroupLoss(per_pair_B.mean(), hit_ratio, per_pair_B.detach())


@dataclass(frozen=True)
class _Side:
    """One image of a pair: its correspondences, their features, and the cells (see `Direction`)."""

    points_N2: Tensor
    sampled_ND: Tensor
    cells_MD: Tensor
    valid_M: Tensor | None


def _grid(cells_BDHW: Tensor, geometry: DenseNetwork, searched: slice) -> Grid:
    """Positions of the rows and columns that ``searched`` takes of the network's map."""
    height, width = cells_BDHW.shape[2:]
    offset = geometry.offset + geometry.stride * searched.start
    return Grid(height, width, geometry.stride * searched.step, offset)


def _side(
    item: Item,
    side: int,
    features_DHW: Tensor,
    geometry: DenseNetwork,
    searched: slice,
    grid: Grid,
) -> _Side:
    device = features_DHW.device
    points_N2 = item.matches_N4[:, 2 * side : 2 * side + 2].to(device)
    return _Side(
        points_N2,
        sample_features(features_DHW, points_N2, geometry.stride, geometry.offset),
        features_DHW[:, searched, searched].permute(1, 2, 0).flatten(0, 1),
        None if item.valid is None else valid_cells(item.valid[side].to(device), grid),
    )


def _pair_directions(
    item: Item, pair: int, sides: Sequence[Sequence[_Side]], grid: Grid, config: TrainConfig
) -> list[Direction]:
    """Mine negatives for a pair's correspondences, 0 -> 1 and 1 -> 0."""
    generator = torch.Generator().manual_seed(item.seed)
    cross_pair = [
        image
        for images in sides
        for other, image in enumerate(images)
        if config.mining.cross_pair_negatives and other != pair
    ]
    every = max(1, len(item.matches_N4) // HIT_SAMPLE) if config.loss.name in OVER_ALL else 1
    mined = slice(None, None, every)
    directions = []
    for here, there in ((sides[0][pair], sides[1][pair]), (sides[1][pair], sides[0][pair])):
        cells_MD, valid_M = _pool([there, *cross_pair])
        negatives = MINERS[config.mining.name](
            here.sampled_ND[mined].detach(),
            cells_MD.detach(),
            there.points_N2[mined],
            grid,
            config.mining.radius,
            valid_M=valid_M,
            memory_mib=config.mining.memory_mib,
            generator=generator,
        )
        directions.append(
            Direction(
                queries_ND=here.sampled_ND,
                positives_ND=there.sampled_ND,
                points_N2=there.points_N2,
                cells_MD=cells_MD,
                valid_M=valid_M,
                grid=grid,
                radius=config.mining.radius,
                negatives=negatives,
            )
        )
    return directions


def _pool(images: Sequence[_Side]) -> tuple[Tensor, Tensor | None]:
    """Concatenate the cells of images, and their validity."""
    if len(images) == 1:
        return images[0].cells_MD, images[0].valid_M
    cells_MD = torch.cat([image.cells_MD for image in images])
    if all(image.valid_M is None for image in images):
        return cells_MD, None
    valid = [
        torch.ones(len(image.cells_MD), dtype=torch.bool, device=cells_MD.device)
        if image.valid_M is None
        else image.valid_M
        for image in images
    ]
    return cells_MD, torch.cat(valid)


def valid_cells(valid_HW: Tensor, grid: Grid) -> Tensor:
    """Which cells lie on image rather than padding: bool [grid.height * grid.width].

    Args:
        valid_HW: bool, the same for pixels.
    """
    height, width = valid_HW.shape
    centres_M2 = cell_centres(grid.height, grid.width, grid.stride, grid.offset)
    x_M, y_M = centres_M2.to(valid_HW.device).round().long().unbind(dim=1)
    inside_M = (x_M < width) & (y_M < height)
    return inside_M & valid_HW[y_M.clamp(max=height - 1), x_M.clamp(max=width - 1)]
