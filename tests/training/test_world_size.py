"""Workers come and go: the same batches, the same losses."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ucn.training.config import TrainConfig
from ucn.training.data.pairs import PairDataset
from ucn.training.data.sampler import Sampler
from ucn.training.loop.gradients import distributed
from ucn.training.loop.loop import Worker, WriteState, fit
from ucn.training.loop.state import Metrics


def work(
    rank: int,
    world_size: int,
    folder: Path,
    config: TrainConfig,
    data: PairDataset,
    resume: Path | None,
) -> None:
    """One worker; rank 0 leaves the checkpoints and the metrics of each step."""
    torch.set_num_threads(1)
    metrics: dict[int, Metrics] = {}

    def checkpoint(step: int, write: WriteState) -> None:
        if rank == 0:
            write(folder / str(step))

    if world_size > 1:
        meeting = f"file://{folder}-meeting"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size)
    worker = Worker(
        metrics.__setitem__,
        checkpoint,
        wrap=distributed if world_size > 1 else (lambda network: network),
        rank=rank,
        world_size=world_size,
    )
    sampler = Sampler((len(data),), config.batch_size, config.seed)
    fit(config, data, data, worker, sampler, resume)
    if rank == 0:
        torch.save(metrics, folder / "metrics.pt")
    if world_size > 1:
        dist.destroy_process_group()


def run(
    folder: Path,
    world_size: int,
    config: TrainConfig,
    data: PairDataset,
    resume: Path | None = None,
) -> dict[int, Metrics]:
    folder.mkdir()
    arguments = (world_size, folder, config, data, resume)
    if world_size == 1:
        work(0, *arguments)
    else:
        mp.spawn(work, arguments, nprocs=world_size)
    metrics: dict[int, Metrics] = torch.load(folder / "metrics.pt", weights_only=True)
    return metrics


@pytest.fixture(autouse=True)
def workers_find_this_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])


@pytest.fixture
def config(tiny_config: TrainConfig) -> TrainConfig:
    return tiny_config.model_copy(update={"steps": 9, "batch_size": 6, "checkpoint_every": 3})


def test_one_two_three_workers_give_the_same_losses(
    tmp_path: Path, config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    """One worker, then two, then one again: as an undisturbed run of one, and of three."""
    data = pairs(10)
    alone = run(tmp_path / "alone", 1, config, data)
    assert sorted(alone) == list(range(9))
    first = run(tmp_path / "first", 1, config, data)
    two = run(tmp_path / "two", 2, config, data, tmp_path / "first" / "3")
    again = run(tmp_path / "again", 1, config, data, tmp_path / "two" / "6")
    assert sorted(two) == list(range(3, 9))
    assert sorted(again) == list(range(6, 9))
    three = run(tmp_path / "three", 3, config, data)
    names = ("loss", "hit_ratio", "gradient_norm", "validation/pck/5")
    for name in names:
        expected = [alone[step][name] for step in range(9) if name in alone[step]]
        chained = first | two | again
        for metrics in (chained, three):
            found = [metrics[step][name] for step in range(9) if name in metrics[step]]
            assert found == pytest.approx(expected, rel=1e-5), name


def test_all_workers_name_the_pair_that_is_not_finite(
    tmp_path: Path, config: TrainConfig, pairs: Callable[[int], PairDataset]
) -> None:
    optimiser = config.optimiser.model_copy(update={"learning_rate": 1e30, "clip_norm": 1e30})
    explosive = config.model_copy(update={"optimiser": optimiser})
    with pytest.raises(mp.ProcessRaisedException, match=r"not finite in step \d, pairs drive-000"):
        run(tmp_path / "run", 2, explosive, pairs(6))
