"""The loss of one batch, and what it tells of the features."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.config import TrainConfig
from training.data import Item
from training.features import cell_centres, sample_features
from training.losses import LOSSES, Direction
from training.mining import MINERS
from training.mining.exclusion import Grid
from training.networks.base import DenseNetwork


@dataclass(frozen=True)
class BatchLoss:
    """Outcome of one worker's part of a batch.

    Attributes:
        loss: scalar with its graph, mean over the pairs.
        hit_ratio: scalar tensor: of all queries of both directions, the fraction whose nearest
            feature among all positions of the other image lies within the exclusion radius of
            the truth.
        per_pair_B: loss of each pair, detached.
    """

    loss: Tensor
    hit_ratio: Tensor
    per_pair_B: Tensor


def batch_loss(
    network: nn.Module, geometry: DenseNetwork, items: Sequence[Item], config: TrainConfig
) -> BatchLoss:
    """Describe both images of all pairs in one pass, mine negatives, and take the loss.

    Args:
        network: the network to call, perhaps wrapped for distributed training.
        geometry: the network itself, for its stride and offset.
        items: pairs with images of one size.
    """
    device = next(network.parameters()).device
    images = torch.stack([item.images[side] for side in (0, 1) for item in items])
    images = images.to(device, non_blocking=True).float().div_(255)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.bfloat16):
        features = network(images)
    features0_BDHW, features1_BDHW = features.chunk(2)
    grid = Grid(features.shape[2], features.shape[3], geometry.stride, geometry.offset)
    losses: list[Tensor] = []
    hits: list[Tensor] = []
    for item, features0, features1 in zip(items, features0_BDHW, features1_BDHW, strict=True):
        directions = pair_directions(item, (features0, features1), grid, config)
        losses.append(LOSSES[config.loss.name](directions, config.loss))
        hits.extend(direction.negatives.hit_N for direction in directions)
    per_pair_B = torch.stack(losses)
    hit_ratio = torch.cat(hits).float().mean().nan_to_num()
    return BatchLoss(per_pair_B.mean(), hit_ratio, per_pair_B.detach())


def pair_directions(
    item: Item, features: tuple[Tensor, Tensor], grid: Grid, config: TrainConfig
) -> list[Direction]:
    """Read the features of a pair's correspondences and mine negatives, 0 -> 1 and 1 -> 0.

    Args:
        features: two maps [D, H, W].
    """
    device = features[0].device
    matches_N4 = item.matches_N4.to(device)
    points = matches_N4[:, :2], matches_N4[:, 2:]
    sampled = [
        sample_features(map_DHW, points_N2, grid.stride, grid.offset)
        for map_DHW, points_N2 in zip(features, points, strict=True)
    ]
    generator = torch.Generator().manual_seed(item.seed)
    directions = []
    for here, there in ((0, 1), (1, 0)):
        cells_MD = features[there].permute(1, 2, 0).flatten(0, 1)
        valid_M = None if item.valid is None else valid_cells(item.valid[there].to(device), grid)
        negatives = MINERS[config.mining.name](
            sampled[here].detach(),
            cells_MD.detach(),
            points[there],
            grid,
            config.mining.radius,
            valid_M=valid_M,
            memory_mib=config.mining.memory_mib,
            generator=generator,
        )
        directions.append(
            Direction(
                queries_ND=sampled[here],
                positives_ND=sampled[there],
                points_N2=points[there],
                cells_MD=cells_MD,
                valid_M=valid_M,
                grid=grid,
                radius=config.mining.radius,
                negatives=negatives,
            )
        )
    return directions


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
