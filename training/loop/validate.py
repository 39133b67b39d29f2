"""Validation PCK: how often the nearest feature is the right one, on fixed held-out points."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from ucn.matching.features import Dense
from ucn.matching.matcher import find
from ucn.matching.scales import extract
from ucn.preprocessing.sample import Sample
from ucn.training.config import TrainConfig
from ucn.training.data.pairs import PairDataset
from ucn.training.device import use_bfloat16
from ucn.training.networks.base import DenseNetwork
from ucn.training.networks.describe import describe

THRESHOLDS = (3, 5, 10)


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
    features0, features1 = (
        extract(image, partial(_describe_map, network, config.bfloat16))
        for image in (sample.image0, sample.image1)
    )
    found_N2, _ = find(features0, matches[:, :2], features1, memory_mib=config.mining.memory_mib)
    return MatchedPair(sample, matches[:, :2], matches[:, 2:], found_N2)


def _describe_map(network: DenseNetwork, bfloat16: bool | None, image: NDArray[np.uint8]) -> Dense:
    device = next(network.parameters()).device
    map_DHW = describe(network, image, use_bfloat16(bfloat16, device))
    return Dense.of(map_DHW, network.stride, network.offset)
