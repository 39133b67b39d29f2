"""The loss and the hit ratio of pairs."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ucn.matching.coarse_search import has_fast_bfloat16
from ucn.matching.features import Grid, pixels_to_cells
from ucn.training.config import TrainConfig
from ucn.training.data.collate import Batch
from ucn.training.losses import Directions
from ucn.training.networks.base import DenseNetwork
from ucn.training.registry import LOSSES, MINERS, OVER_ALL

HIT_SAMPLE = 64


@dataclass(frozen=True)
class PairLosses:
    """Losses and hit ratio of some pairs.

    Attributes:
        loss_P: loss of each pair, with its graph.
        hit_ratio: scalar tensor, mean over the groups of pairs: the fraction of the queries of both
            directions whose nearest feature among all searched positions lies within the exclusion
            radius of the truth. Measured on about `HIT_SAMPLE` queries a direction where the loss
            needs no search.
    """

    loss_P: Tensor
    hit_ratio: Tensor


def pair_losses(
    features_BDHW: Tensor, geometry: DenseNetwork, batch: Batch, config: TrainConfig, step: int
) -> PairLosses:
    """Mine negatives for all pairs, both ways, and compute the losses.

    Args:
        features_BDHW: of the batch's images.
        geometry: the network, for its stride and offset.
        batch: whole groups of pairs.
        step: chooses which cells are searched, if not all are.
    """
    directions = _directions(features_BDHW, geometry, batch, config, step)
    loss_P = LOSSES.load(config.loss.name)(directions, config.loss)
    return PairLosses(loss_P, _hit_ratio(directions, config))


def _directions(
    features_BDHW: Tensor, geometry: DenseNetwork, batch: Batch, config: TrainConfig, step: int
) -> Directions:
    """Sample the features of the correspondences, and mine negatives.

    Row b searches image b; its queries are of the other image of its pair.
    """
    stride, mining = config.mining.search_stride, config.mining
    first = step % stride
    cells_BHWD = features_BDHW.permute(0, 2, 3, 1)[:, first::stride, first::stride]
    offset = geometry.offset + geometry.stride * first
    height, width = cells_BHWD.shape[1:3]
    grid = Grid(height, width, geometry.stride * stride, offset)
    positives_BND = _sample(features_BDHW, batch.points_BN2, geometry)
    queries_BND = (
        positives_BND.view(len(positives_BND) // 2, 2, *positives_BND.shape[1:])
        .flip(1)
        .flatten(0, 1)
    )
    cells_BMD = cells_BHWD.flatten(1, 2)
    valid_BM = None if batch.valid_BHW is None else valid_cells(batch.valid_BHW, grid)
    if mining.cross_pair_negatives:
        pool_BI = _pool(config.pairs_in_group, len(cells_BMD), cells_BMD.device)
        cells_BMD = _pooled(cells_BMD, pool_BI)
        valid_BM = None if valid_BM is None else _pooled(valid_BM, pool_BI)
    mined = slice(None, None, _mined_every(config))
    negatives = MINERS.load(mining.name)(
        queries_BND[:, mined].detach(),
        cells_BMD.detach(),
        batch.points_BN2[:, mined],
        grid,
        mining.radius,
        valid_M=valid_BM,
        memory_mib=mining.memory_mib,
        uniform_N=batch.uniform_BN[:, mined],
    )
    halves = config.bfloat16 is not False and has_fast_bfloat16(features_BDHW.device)
    return Directions(
        queries_BND,
        positives_BND,
        batch.points_BN2,
        batch.present_BN,
        cells_BMD,
        valid_BM,
        grid,
        mining.radius,
        negatives,
        torch.bfloat16 if halves else features_BDHW.dtype,
    )


def _sample(features_BDHW: Tensor, points_BN2: Tensor, geometry: DenseNetwork) -> Tensor:
    """As `sample_features`, with a gradient in the layout of features whose channels are last."""
    height, width = features_BDHW.shape[2:]
    x_BN, y_BN = pixels_to_cells(points_BN2, geometry.stride, geometry.offset).unbind(dim=2)
    (left_BN, x_BN), (top_BN, y_BN) = _lower_cell(x_BN, width), _lower_cell(y_BN, height)
    image_B1 = torch.arange(len(points_BN2), device=points_BN2.device)[:, None]
    row_BN = (image_B1 * height + top_BN) * width + left_BN
    right, below = min(1, width - 1), min(1, height - 1) * width
    rows_4BN = torch.stack([row_BN, row_BN + right, row_BN + below, row_BN + below + right])
    weights_4BN = torch.stack(
        [(1 - y_BN) * (1 - x_BN), (1 - y_BN) * x_BN, y_BN * (1 - x_BN), y_BN * x_BN]
    )
    rows_RD = features_BDHW.permute(0, 2, 3, 1).flatten(0, 2)
    corners_4BND = rows_RD.index_select(0, rows_4BN.flatten()).view(*rows_4BN.shape, -1)
    return F.normalize((corners_4BND * weights_4BN[..., None]).sum(dim=0), dim=2)


def _lower_cell(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Lower of the two cells around each position, clamped to the map; cells beyond it."""
    position = position.clamp(0, size - 1)
    lower = position.floor().clamp_(max=max(0, size - 2))
    return lower.long(), position - lower


def _mined_every(config: TrainConfig) -> int:
    return max(1, config.points // HIT_SAMPLE) if config.loss.name in OVER_ALL else 1


def _hit_ratio(directions: Directions, config: TrainConfig) -> Tensor:
    present_BN = directions.present_BN[:, :: _mined_every(config)]
    hits_BN = directions.negatives.hit_N & present_BN
    num_groups = len(present_BN) // (2 * config.pairs_in_group)
    hits_G, count_G = torch.stack([hits_BN, present_BN]).view(2, num_groups, -1).sum(dim=2)
    ratio: Tensor = (hits_G / count_G.clamp(min=1)).mean()
    return ratio


def _pool(group_size: int, num_images: int, device: torch.device) -> Tensor:
    """Images that each image's queries are searched in: it, then those of its group's other pairs.

    Returns:
        int64 [B, 2 * group_size - 1].
    """
    image_B1 = torch.arange(num_images, device=device)[:, None]
    place_J = torch.arange(2 * group_size - 2, device=device)
    pair_B1 = image_B1 // 2 * 2
    start_B1 = image_B1 // (2 * group_size) * (2 * group_size)
    others_BJ = start_B1 + place_J
    others_BJ = others_BJ + 2 * (others_BJ >= pair_B1)
    return torch.cat([image_B1, others_BJ], dim=1)


def _pooled(values_BM: Tensor, pool_BI: Tensor) -> Tensor:
    """Concatenate the cells of several images for each image."""
    pooled = values_BM.index_select(0, pool_BI.flatten())
    return pooled.view(*pool_BI.shape, *values_BM.shape[1:]).flatten(1, 2)


def valid_cells(valid_BHW: Tensor, grid: Grid) -> Tensor:
    """Which cells lie on image rather than padding: bool [B, grid.height * grid.width].

    Args:
        valid_BHW: bool, the same for pixels.
    """
    first, stride = round(grid.offset), round(grid.stride)
    taken_Bhw = valid_BHW[:, first::stride, first::stride][:, : grid.height, : grid.width]
    below, right = grid.height - taken_Bhw.shape[1], grid.width - taken_Bhw.shape[2]
    return F.pad(taken_Bhw, (0, right, 0, below)).flatten(1)
