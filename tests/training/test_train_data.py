"""Items, channels, and mapping ahead in threads."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from ucn.matching.exclusion import Grid
from ucn.training.config import TrainConfig
from ucn.training.data.pairs import PairDataset, load_item, map_ahead, training_batches
from ucn.training.data.sampler import Sampler
from ucn.training.losses.pair_losses import valid_cells
from ucn.training.networks.describe import as_channels


def test_items_are_a_function_of_seed_epoch_and_index(
    tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    first = load_item(pairs(4), 1, 0, 1, tiny_config)
    again = load_item(pairs(4), 1, 0, 1, tiny_config)
    later = load_item(pairs(4), 1, 1, 1, tiny_config)
    assert torch.equal(first.matches_N4, again.matches_N4)
    assert torch.equal(first.images[1], again.images[1])
    assert first.seed == again.seed != later.seed
    assert not torch.equal(first.images[1], later.images[1])
    assert first.matches_N4.shape == (64, 4)
    assert first.images[0].shape == (1, 64, 64)


def test_batches_resume_and_are_shared_out_without_change(
    tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    def keys(rank: int, world_size: int, first_step: int) -> list[list[list[str]]]:
        sampler = Sampler((10,), 4, 0)
        batches = training_batches(pairs(10), sampler, 1, tiny_config, first_step, rank, world_size)
        return [[[item.key for item in group] for group in groups] for groups in batches]

    alone = keys(0, 1, 0)
    assert [[len(group) for group in groups] for groups in alone] == [[2, 2]] * 6
    assert keys(0, 1, 3) == alone[3:]
    left, right = keys(0, 2, 0), keys(1, 2, 0)
    assert [a + b for a, b in zip(left, right, strict=True)] == alone


def test_map_ahead_keeps_order_and_its_distance() -> None:
    lock = threading.Lock()
    started = []

    def work(value: int) -> int:
        with lock:
            started.append(value)
        time.sleep(0.002 * (value % 3))
        return value * value

    results = map_ahead(work, range(40), threads=3, ahead=5)
    assert [next(results) for _ in range(10)] == [i * i for i in range(10)]
    assert len(started) <= 10 + 5
    assert list(results) == [i * i for i in range(10, 40)]


def test_map_ahead_passes_errors_on() -> None:
    def work(value: int) -> float:
        return 1 / (value - 3)

    results = map_ahead(work, range(10), threads=2, ahead=4)
    assert [next(results) for _ in range(3)] == [1 / -3, 1 / -2, 1 / -1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_channels() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    colour = np.stack([grey, grey + 100, grey + 200], axis=-1)
    np.testing.assert_array_equal(as_channels(grey, 3), np.stack([grey] * 3))
    np.testing.assert_array_equal(as_channels(colour, 3), colour.transpose(2, 0, 1))
    luma = np.rint(colour @ np.array([0.299, 0.587, 0.114]))
    np.testing.assert_allclose(as_channels(colour, 1)[0], luma, atol=1)
    for bad in (grey.astype(np.float32), colour[..., :2], colour[None]):
        with pytest.raises(ValueError, match="uint8"):
            as_channels(bad, 1)


def test_cells_are_valid_where_their_pixel_is_image() -> None:
    valid = torch.zeros(16, 24, dtype=torch.bool)
    valid[:10, :14] = True
    cells = valid_cells(valid[None], Grid(4, 6, 4, 2.0)).view(4, 6)
    assert cells.sum(dim=1).tolist() == [3, 3, 0, 0]  # x, y = 2, 6, 10 inside 14 x 10
