"""Validation PCK: how often the nearest feature is the right one, on fixed held-out points."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from ucn.matching.features import cell_centres, sample_features
from ucn.matching.nearest import nearest_cells
from ucn.preprocessing.sample import Sample
from ucn.training.config import TrainConfig
from ucn.training.data.pairs import PairDataset
from ucn.training.networks.base import DenseNetwork
from ucn.training.networks.describe import describe

THRESHOLDS = (3, 5, 10)
PITCH = 2
"""Matches are searched on a grid of so many pixels, finer than the cells."""


@torch.no_grad()
def match_points(
    features0: Tensor,
    features1: Tensor,
    points0_N2: Tensor,
    size1: tuple[int, int],
    geometry: DenseNetwork,
    memory_mib: int,
) -> Tensor:
    """Find each point of image 0 in image 1: nearest feature on a grid of `PITCH` pixels.

    Args:
        features0, features1: [D, h, w].
        size1: width and height of image 1.

    Returns:
        float32 [N, 2] pixels of image 1.
    """
    stride, offset = geometry.stride, geometry.offset
    width, height = size1
    grid_M2 = cell_centres(-(-height // PITCH), -(-width // PITCH), PITCH, 0).to(features1.device)
    queries_ND = sample_features(features0, points0_N2.to(features0.device), stride, offset)
    cells_MD = sample_features(features1, grid_M2, stride, offset)
    index_N, _ = nearest_cells(queries_ND, cells_MD, memory_mib)
    return grid_M2[index_N]


def validation_indices(num_samples: int, num_pairs: int) -> list[int]:
    """The fixed list: samples spread evenly over the dataset."""
    count = min(num_samples, num_pairs)
    return [(2 * place + 1) * num_samples // (2 * count) for place in range(count)]


@dataclass(frozen=True)
class MatchedPair:
    """Points of a validation pair, and where the network finds them.

    Attributes:
        sample: the pair.
        points0_N2, truth_N2, found_N2: pixels (x, y): in image 0, and truly and as found in
            image 1.
    """

    sample: Sample
    points0_N2: NDArray[np.float32]
    truth_N2: NDArray[np.float32]
    found_N2: NDArray[np.float32]

    @property
    def error_N(self) -> NDArray[np.float32]:
        """Distance from the truth, pixels."""
        return np.asarray(np.linalg.norm(self.found_N2 - self.truth_N2, axis=1), np.float32)


def validate(
    network: DenseNetwork,
    dataset: PairDataset,
    config: TrainConfig,
    rank: int = 0,
    world_size: int = 1,
    show: Callable[[MatchedPair], None] = lambda pair: None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[str, float]:
    """Match points of the fixed validation pairs, 0 -> 1, over the whole images.

    The workers share the pairs; all of them call this, and get the same result.

    Args:
        show: called by rank 0 with the first `TrackingConfig.pictures` pairs that it matches.

    Returns:
        ``pck/T`` for each threshold T in pixels: percent of all points matched within T of the
        truth (inclusive). Empty without points.
    """
    indices = validation_indices(len(dataset), config.data.validation_pairs)
    counts = torch.zeros(len(thresholds) + 1, dtype=torch.float64)
    was_training = network.training
    network.eval()
    for place, index in enumerate(indices[rank::world_size]):
        pair = match_pair(network, dataset[index], index, config)
        hits = [int((pair.error_N <= threshold).sum()) for threshold in thresholds]
        counts += torch.tensor([len(pair.error_N), *hits])
        if rank == 0 and place < config.tracking.pictures:
            show(pair)
    network.train(was_training)
    if dist.is_initialized():
        counts = counts.to(next(network.parameters()).device)
        dist.all_reduce(counts)
    num_points, *hits = counts.tolist()
    if not num_points:
        return {}
    pairs = zip(thresholds, hits, strict=True)
    return {f"pck/{threshold:g}": 100 * count / num_points for threshold, count in pairs}


def match_pair(
    network: DenseNetwork, sample: Sample, index: int, config: TrainConfig
) -> MatchedPair:
    """Match a fixed choice of a pair's points.

    Args:
        network: in evaluation mode.
        index: of the sample; decides the choice.
    """
    matches = sample.matches_N4
    if len(matches) > config.data.validation_points:
        rng = np.random.default_rng([0, index])
        matches = matches[rng.choice(len(matches), config.data.validation_points, replace=False)]
    found_N2 = match_points(
        describe(network, sample.image0, config.bfloat16),
        describe(network, sample.image1, config.bfloat16),
        torch.from_numpy(matches[:, :2].copy()),
        (sample.image1.shape[1], sample.image1.shape[0]),
        network,
        config.mining.memory_mib,
    )
    return MatchedPair(sample, matches[:, :2], matches[:, 2:], found_N2.cpu().numpy())
