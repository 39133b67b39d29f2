"""A training of minutes at most, on noise and the same noise moved, and how it ends undisturbed."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.write import write_manifest, write_shard
from ucn.storage.stores import open_store
from ucn.training.config import TrainConfig
from ucn.training.data.inputs import open_datasets, training_sampler
from ucn.training.loop.loop import Worker, fit

SAMPLES, EPOCH, CHECKPOINT_EVERY = 60, 15, 3


def noise_config(folder: Path, steps: int, **options: object) -> TrainConfig:
    """Write the shards into a folder, unless they are there, and describe training on them."""
    store = open_store(folder / "shards")
    if not store.sizes():
        shard = write_shard(store, "train-000000.tar", _pairs(), "grey-png", "configuration", "f")
        write_manifest(store, [shard], {})
    values = {
        "data": {"shards": str(folder / "shards"), "cache_gib": 0},
        "network": {"name": "small", "options": {"width": 16, "dimension": 16}},
        "augmentation": {"crop_width": 48, "crop_height": 48, "shift": 4},
        "mining": {"radius": 6.0},
        "schedule": {"warmup_steps": 1},
        "tracking": {"uri": f"sqlite:///{folder / 'mlflow.db'}"},
        "output": folder / "run",
        "steps": steps,
        "batch_size": SAMPLES // EPOCH,
        "points": 64,
        "checkpoint_every": CHECKPOINT_EVERY,
        "bfloat16": False,
        "threads": 1,
        "workers": 2,
        "min_workers": 1,
        "device": "cpu",
    }
    return TrainConfig.model_validate(values | options)


def undisturbed(config: TrainConfig) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Weights, running statistics among them, and losses of one worker alone."""
    losses: list[float] = []
    training, _ = open_datasets(config)
    worker = Worker(lambda _, metrics: losses.append(metrics["loss"]), lambda step, write: None)
    state = fit(config, training, None, worker, training_sampler(config, training))
    weights = state.network.state_dict()
    return {name: one for name, one in weights.items() if one.is_floating_point()}, losses


def _pairs() -> Iterator[Sample]:
    rng = np.random.default_rng(3)
    x, y = np.meshgrid(np.arange(10, 86, 3), np.arange(10, 70, 3))
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    for index in range(SAMPLES):
        noise = cv2.resize(rng.random((30, 36), dtype=np.float32), (116, 100))
        noise = (noise * 180 + 60 * rng.random(noise.shape)).astype(np.uint8)
        dx, dy = rng.integers(0, 11, 2)
        image0 = np.ascontiguousarray(noise[10:90, 10:106])
        image1 = np.ascontiguousarray(noise[dy : dy + 80, dx : dx + 96])
        matches = np.concatenate([points, points + np.array([10 - dx, 10 - dy])], axis=1)
        inside = (matches[:, 2] < 96) & (matches[:, 3] < 80)
        metadata = {"sequence": "noise", "frame0": 2 * index, "frame1": 2 * index + 1}
        yield Sample(
            f"pair-{index:04d}", image0, image1, matches[inside].astype(np.float32), metadata
        )
