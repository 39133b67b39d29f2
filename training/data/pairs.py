"""Training pairs: where they are read from, and how they are augmented."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ucn.preprocessing.sample import Sample
from ucn.training.config import TrainConfig
from ucn.training.data.augment import augment_pair
from ucn.training.data.prefetch import Prefetcher
from ucn.training.networks.describe import as_channels


class PairDataset(Protocol):
    """Anything that yields samples by number, such as `ShardDataset`."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Sample: ...


class Reader(Protocol):
    """Reads the samples that `TrainingData` has located. Of an importable class, picklable."""

    def read(self, location: Any, /) -> Sample: ...


class TrainingData(Protocol):
    """Samples by number, for reader processes that hold no index, such as `Mixture`."""

    def __len__(self) -> int: ...
    @property
    def prefetcher(self) -> Prefetcher | None: ...
    @property
    def reader(self) -> Reader: ...
    def locate(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class Item:
    """One augmented pair.

    Attributes:
        key: of the sample.
        images: two uint8 tensors [C, H, W].
        matches_N4: float32, x0, y0, x1, y1, pixels of the crops.
        valid: two bool tensors [H, W], False for padding; None where both are image throughout.
        seed: for what else is drawn for this pair in this epoch.
    """

    key: str
    images: tuple[Tensor, Tensor]
    matches_N4: Tensor
    valid: tuple[Tensor, Tensor] | None
    seed: int


def load_item(sample: Sample, index: int, epoch: int, channels: int, config: TrainConfig) -> Item:
    """Augment one pair; the outcome is a function of (config.seed, epoch, index)."""
    rng = np.random.default_rng([config.seed, epoch, index])
    views = augment_pair(
        sample.image0,
        sample.image1,
        sample.matches_N4,
        config.augmentation,
        config.min_matches,
        rng,
    )
    matches = views.matches_N4
    if len(matches) > config.points:
        matches = matches[rng.choice(len(matches), config.points, replace=False)]
    padded = not (views.valid[0].all() and views.valid[1].all())
    image0, image1 = (torch.from_numpy(as_channels(view, channels)) for view in views.images)
    valid0, valid1 = map(torch.from_numpy, views.valid)
    return Item(
        key=sample.key,
        images=(image0, image1),
        matches_N4=torch.from_numpy(matches),
        valid=(valid0, valid1) if padded else None,
        seed=int(rng.integers(2**62)),
    )
