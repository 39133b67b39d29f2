"""Items, and batches that reader processes make ahead of the network."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from ucn.errors import UserError
from ucn.matching.exclusion import Grid
from ucn.preprocessing.shards.read import ShardDataset
from ucn.training.config import DataConfig, TrainConfig
from ucn.training.data import loader
from ucn.training.data.collate import Batch, PackedBatch, collate
from ucn.training.data.inputs import Mixture
from ucn.training.data.loader import num_readers, on_device, training_batches
from ucn.training.data.pairs import Item, PairDataset, load_item
from ucn.training.data.sampler import Sampler
from ucn.training.losses.pair_losses import valid_cells
from ucn.training.networks.describe import as_channels

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def with_readers(config: TrainConfig, readers: int | None) -> TrainConfig:
    return config.model_copy(update={"data": DataConfig(readers=readers)})


def tensors(batch: Batch) -> list[torch.Tensor]:
    return [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]


def assert_equal(found: Batch, expected: Batch) -> None:
    assert found.keys == expected.keys
    assert len(tensors(found)) == len(tensors(expected))
    for one, other in zip(tensors(found), tensors(expected), strict=True):
        assert torch.equal(one.cpu(), other.cpu())


def test_items_are_a_function_of_seed_epoch_and_index(
    tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    first = load_item(pairs(4)[1], 1, 0, 1, tiny_config)
    again = load_item(pairs(4)[1], 1, 0, 1, tiny_config)
    later = load_item(pairs(4)[1], 1, 1, 1, tiny_config)
    assert torch.equal(first.matches_N4, again.matches_N4)
    assert torch.equal(first.images[1], again.images[1])
    assert first.seed == again.seed != later.seed
    assert not torch.equal(first.images[1], later.images[1])
    assert first.matches_N4.shape == (64, 4)
    assert first.images[0].shape == (1, 64, 64)


def test_batches_resume_and_are_shared_out_without_change(
    tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    def keys(rank: int, world_size: int, first_step: int) -> list[tuple[str, ...]]:
        sampler = Sampler((10,), 4, 0)
        batches = training_batches(pairs(10), sampler, 1, tiny_config, first_step, rank, world_size)
        return [batch.keys for batch in batches]

    alone = keys(0, 1, 0)
    assert [len(batch) for batch in alone] == [4] * 6
    assert keys(0, 1, 3) == alone[3:]
    left, right = keys(0, 2, 0), keys(1, 2, 0)
    assert [a + b for a, b in zip(left, right, strict=True)] == alone


@pytest.fixture
def items() -> list[Item]:
    """Two pairs: 3 and 1 correspondences; image 0 of the second is padded on the right."""
    rng = np.random.default_rng(0)
    valid = torch.ones(5, 7, dtype=torch.bool)
    padded = valid.clone()
    padded[:, 4:] = False
    made = []
    for number, (count, masks) in enumerate([(3, None), (1, (padded, valid))]):
        images = torch.from_numpy(rng.integers(0, 256, (2, 1, 5, 7), np.uint8))
        matches = torch.from_numpy(rng.random((count, 4), np.float32))
        made.append(Item(f"pair-{number}", (images[0], images[1]), matches, masks, seed=number))
    return made


def test_collated_pairs_are_padded_and_masked(items: list[Item]) -> None:
    batch = collate(items).to(CPU)
    assert batch.keys == ("pair-0", "pair-1")
    assert torch.equal(batch.images_BCHW, torch.stack([*items[0].images, *items[1].images]))
    assert batch.present_BN.tolist() == 2 * [[True] * 3] + 2 * [[True, False, False]]
    for pair, item in enumerate(items):
        count = len(item.matches_N4)
        for side in (0, 1):
            points = batch.points_BN2[2 * pair + side]
            assert torch.equal(points[:count], item.matches_N4[:, 2 * side : 2 * side + 2])
            assert not points[count:].any()
        drawn = np.random.default_rng(item.seed).random((2, count))
        np.testing.assert_array_equal(batch.uniform_BN[2 * pair : 2 * pair + 2, :count], drawn)
    assert batch.valid_BHW is not None
    assert batch.valid_BHW.sum(dim=(1, 2)).tolist() == [35, 35, 20, 35]
    assert collate(items[:1]).to(CPU).valid_BHW is None


def test_a_batch_is_one_buffer(items: list[Item]) -> None:
    storages = {tensor.untyped_storage().data_ptr() for tensor in tensors(collate(items).to(CPU))}
    assert len(storages) == 1


def test_without_shared_memory_a_batch_is_sent_as_a_copy(
    items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: torch.Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    assert isinstance(collate(items).share().buffer, torch.Tensor)
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    packed = collate(items).share()
    assert isinstance(packed.buffer, np.ndarray)
    assert_equal(packed.to(CPU), collate(items).to(CPU))


def test_readers_leave_no_trace(
    tiny_config: TrainConfig, write_shards: Callable[[str, int], Path]
) -> None:
    """Neither in the batches, nor in the global generators."""
    dataset = Mixture([ShardDataset(write_shards("shards", 6))])
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()

    def batches(readers: int) -> Iterator[PackedBatch]:
        config = with_readers(tiny_config, readers)
        return training_batches(dataset, Sampler((6,), 4, 0), 1, config, first_step=1)

    for found, expected in zip(batches(2), batches(0), strict=True):
        assert isinstance(found.buffer, torch.Tensor)
        assert found.buffer.is_shared()
        assert_equal(found.to(CPU), expected.to(CPU))
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_a_damaged_shard_is_the_same_error_from_a_reader(
    tiny_config: TrainConfig, write_shards: Callable[[str, int], Path]
) -> None:
    folder = write_shards("shards", 4)
    tar = folder / "train-000000.tar"
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    dataset = Mixture([ShardDataset(folder)])
    messages = []
    for readers in (0, 1):
        config = with_readers(tiny_config, readers)
        with pytest.raises(UserError, match=r"train-000000\.tar: ") as error:
            list(training_batches(dataset, Sampler((4,), 4, 0), 1, config))
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]


SCRIPT = """
import multiprocessing
from ucn.preprocessing.shards.read import ShardDataset
from ucn.training.config import TrainConfig
from ucn.training.data.inputs import Mixture
from ucn.training.data.loader import training_batches
from ucn.training.data.sampler import Sampler
import ray

config = TrainConfig(steps=100, data={"readers": 1}, augmentation={"crop_width": 64})
batches = training_batches(Mixture([ShardDataset(FOLDER)]), Sampler((4,), 4, 0), 1, config)
next(batches)
print(multiprocessing.active_children()[0].pid, flush=True)
input()
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")
def test_a_reader_does_not_import_the_main_module_and_ends_with_a_killed_parent(
    tmp_path: Path, write_shards: Callable[[str, int], Path]
) -> None:
    script = tmp_path / "main.py"
    script.write_text(SCRIPT.replace("FOLDER", repr(str(write_shards("shards", 4)))))
    # Too long for the name of a socket, as on a cluster.
    temporary = tmp_path / ("x" * 100)
    temporary.mkdir()
    parent = subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    )
    assert parent.stdout is not None
    reader = int(parent.stdout.readline())
    assert "_raylet" in Path(f"/proc/{parent.pid}/maps").read_text()
    assert "_raylet" not in Path(f"/proc/{reader}/maps").read_text()
    parent.kill()
    parent.communicate()
    for _ in range(200):
        with suppress(ProcessLookupError):
            if " Z " not in Path(f"/proc/{reader}/stat").read_text():
                time.sleep(0.1)
                continue
        break
    else:
        os.kill(reader, signal.SIGKILL)
        pytest.fail("the reader outlives its parent")


@pytest.mark.parametrize(
    ("cpus", "device", "expected"),
    [(1, CUDA, 1), (8, CUDA, 7), (64, CUDA, 16), (2, CPU, 1), (32, CPU, 4)],
)
def test_readers_by_default(
    cpus: int, device: torch.device, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "worker_cpus", lambda: cpus)
    assert num_readers(TrainConfig(), device) == expected
    assert num_readers(TrainConfig(data={"reader_threads": 3}), device) == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_are_copied_ahead_from_pinned_memory(
    tiny_config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    sampler = Sampler((10,), 4, 0)
    packed = list(training_batches(pairs(10), sampler, 1, tiny_config, device=CUDA))
    assert all(torch.as_tensor(batch.buffer).is_pinned() for batch in packed)
    for found, expected in zip(on_device(packed, CUDA), packed, strict=True):
        assert found.images_BCHW.is_cuda
        assert_equal(found, expected.to(CPU))


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
