"""Small made-up image pairs, in memory and as shards."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.write import write_manifest, write_shard
from ucn.storage.stores import open_store
from ucn.training.config import TrainConfig


class ShiftedPairs:
    """Noise of two octaves; image 1 shows it moved by whole pixels."""

    prefetcher = None

    def __init__(self, num_samples: int, width: int = 96, height: int = 80) -> None:
        self.num_samples, self.width, self.height = num_samples, width, height

    def __len__(self) -> int:
        return self.num_samples

    @property
    def reader(self) -> "ShiftedPairs":
        return self

    def locate(self, index: int) -> int:
        return index

    def read(self, index: int) -> Sample:
        return self[index]

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([7, index])
        canvas = cv2.resize(rng.random((30, 34), dtype=np.float32), (136, 120))
        canvas = canvas * 180 + 60 * rng.random(canvas.shape, dtype=np.float32)
        shift = rng.integers(-10, 11, 2)
        views = []
        for dx, dy in ((0, 0), shift):
            rows, columns = slice(20 + dy, 20 + dy + self.height), slice(20 + dx, None)
            view = canvas[rows, columns][:, : self.width]
            views.append(np.ascontiguousarray(view).astype(np.uint8))
        x, y = np.meshgrid(np.arange(2, self.width, 3), np.arange(2, self.height, 3))
        points0 = np.stack([x.ravel(), y.ravel()], axis=1)
        points1 = points0 - shift
        size = np.array([self.width, self.height])
        inside = ((points1 >= 0) & (points1 < size)).all(axis=1)
        matches = np.concatenate([points0, points1], axis=1)[inside].astype(np.float32)
        metadata = {"sequence": "drive", "frame0": 2 * index, "frame1": 2 * index + 1}
        return Sample(f"drive-{index:04d}", views[0], views[1], matches, metadata)


@pytest.fixture(autouse=True)
def unthreaded(one_thread: None) -> None:
    """Tiny tensors are faster without threads, and much so on a busy machine."""


@pytest.fixture
def pairs() -> Callable[[int], ShiftedPairs]:
    return ShiftedPairs


@pytest.fixture
def write_shards(tmp_path: Path) -> Callable[[str, int], Path]:
    """Write so many pairs as a finished dataset of one shard; return its folder."""

    def write(name: str, num_samples: int) -> Path:
        folder = tmp_path / name
        samples = ShiftedPairs(num_samples)
        outcomes = (samples[index] for index in range(num_samples))
        store = open_store(folder)
        shard = write_shard(store, "train-000000.tar", outcomes, "grey-png", "configuration", "f")
        write_manifest(store, [shard], {})
        return folder

    return write


@pytest.fixture
def tiny_config(tmp_path: Path) -> TrainConfig:
    """A configuration that trains a tiny network for six steps."""
    return TrainConfig.model_validate(
        {
            "data": {"readers": 0},
            "network": {"name": "small", "options": {"width": 16, "dimension": 16}},
            "augmentation": {"crop_width": 64, "crop_height": 64, "shift": 4},
            "mining": {"radius": 6.0},
            "schedule": {"warmup_steps": 1},
            "tracking": {"enabled": False},
            "output": tmp_path / "run",
            "steps": 6,
            "batch_size": 4,
            "points": 64,
            "checkpoint_every": 2,
            "validate_every": 3,
            "bfloat16": False,
        }
    )
