"""The rows of `benchmarks/gpu_check.py`: what is measured, beside what, and what must hold."""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import cv2
import numpy as np
import step as step_benchmark
import torch
import torch.distributed as dist
from mining import in_turns
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.nn import functional as F

from ucn.arrays import Array
from ucn.matching.exclusion import Exclusion, excluded_cells
from ucn.matching.features import Grid
from ucn.matching.search import Found, _search_exact
from ucn.preprocessing.sample import Sample
from ucn.training.config import TrainConfig
from ucn.training.data.loader import training_batches
from ucn.training.data.sampler import Sampler
from ucn.training.loop.gradients import distributed
from ucn.training.loop.loop import Worker, fit
from ucn.training.loop.state import Metrics, TrainState

MAX_LOSS = 1e-6
"""Similarity that a cell chosen by the kernel may lack: float32's rounding at D = 128."""
MAX_DIFFERENCE = 1e-5
"""Between the weights of one and of several processes."""
PROCESSES = 2
LOSSES = {"small": "infonce", "googlenet": "contrastive", "resunet": "hardest_contrastive"}
SHIFT = 9, 4  # of image 1 against image 0, pixels
Conditions = dict[str, Any]


class Search(NamedTuple):
    sets: int
    queries: int
    grid: Grid
    dimension: int


SEARCHES = {
    "mining, a pair of KITTI": Search(1, 3000, Grid(80, 275, 4, 1.5), 64),
    "mining, 16 pairs, both directions": Search(32, 1024, Grid(80, 120, 4, 1.5), 64),
    "matching, all pixels of KITTI": Search(1, 3000, Grid(375, 1242, 1, 0), 128),
}


@dataclass(frozen=True)
class Row:
    """A row of the table: a measurement, what it is compared with, and whether a check holds."""

    measured: str
    reference: str
    ratio: float
    check: str
    holds: bool = True


@dataclass(frozen=True)
class EncodedPairs:
    """A dataset in memory: PNG files of an image and of a shifted one, with their matches."""

    files: Sequence[Sequence[Array]]
    prefetcher: None = None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def reader(self) -> "EncodedPairs":
        return self

    def locate(self, index: int, /) -> int:
        return index

    def read(self, index: int, /) -> Sample:
        image0, image1 = (cv2.imdecode(png, cv2.IMREAD_GRAYSCALE) for png in self.files[index])
        assert image0 is not None, "made by `encoded_pairs`"
        assert image1 is not None
        points = np.random.default_rng(index).uniform(
            20, np.array(image0.shape[::-1]) - 20, (4000, 2)
        )
        matches = np.concatenate([points, points - SHIFT], axis=1).astype(np.float32)
        return Sample(f"pair-{index}", image0, image1, matches, {})


def all_rows(conditions: Conditions) -> dict[str, dict[str, Callable[[], Row]]]:
    """Functions that measure the rows, by part and name."""
    rounds = 2 if conditions["quick"] else 15
    searches = SEARCHES if conditions["device"] == "cuda" else {}
    return {
        "search": {name: partial(search_row, size, rounds) for name, size in searches.items()},
        "step": {network: partial(step_row, network, conditions) for network in LOSSES},
        "loader": {"grey PNG, 1242 x 375": partial(loader_row, conditions)},
        "distributed": {f"{PROCESSES} processes": partial(distributed_row, conditions)},
    }


def _plain_search(
    queries_BND: Tensor, cells_BMD: Tensor, valid_BM: Tensor, exclusion: Exclusion
) -> Found:
    window = excluded_cells(*exclusion)
    return _search_exact(queries_BND, cells_BMD, valid_BM, window, memory_mib=256)


def search_row(size: Search, rounds: int) -> Row:
    """The kernel beside the plain search: time, memory, and the similarity of the chosen cells."""
    from ucn.matching.fused_search import _kernel, fused_search

    arguments = search_arguments(size)
    start = time.perf_counter()
    found = Found(*fused_search(*arguments))
    torch.cuda.synchronize()
    first_s = time.perf_counter() - start
    expected = _plain_search(*arguments)
    queries_BND, cells_BMD = arguments[:2]

    def similarity(index_BN: Tensor) -> Tensor:
        chosen_BND = cells_BMD.take_along_dim(index_BN[..., None], dim=1)
        return (queries_BND.double() * chosen_BND.double()).sum(dim=-1)

    loss = float((similarity(expected.index_N) - similarity(found.index_N)).max())
    inside = float((found.inside_N.exp() - expected.inside_N.exp()).abs().max())
    same = float((found.index_N == expected.index_N).double().mean())
    functions: dict[str, Callable[[], object]] = {
        "kernel": lambda: synchronised(fused_search(*arguments)),
        "plain": lambda: synchronised(_plain_search(*arguments)),
    }
    times = {name: median(seconds) for name, seconds in in_turns(functions, rounds).items()}
    memory = {name: peak_mib(function) for name, function in functions.items()}
    return Row(
        measured=f"{1e3 * times['kernel']:.2f} ms, {memory['kernel']:.0f} MiB",
        reference=f"plain search {1e3 * times['plain']:.2f} ms, {memory['plain']:.0f} MiB",
        ratio=times["plain"] / times["kernel"],
        check=(
            f"same cell {100 * same:.2f} %, loss of similarity {loss:.1e}, within the radius "
            f"{inside:.1e}; first call {first_s:.1f} s; {_kernel.best_config}"
        ),
        holds=loss < MAX_LOSS and inside < 4 * MAX_LOSS,
    )


def search_arguments(size: Search) -> tuple[Tensor, Tensor, Tensor, Exclusion]:
    """Queries near the cells of smooth maps, a tenth of whose cells is padding."""
    device = torch.device("cuda")
    generator = torch.Generator(device).manual_seed(0)
    sets, queries, grid, dimension = size
    shape = sets, dimension, grid.height // 8, grid.width // 8
    coarse = torch.randn(shape, device=device, generator=generator)
    maps = F.interpolate(coarse, (grid.height, grid.width), mode="bicubic", align_corners=True)
    cells_BMD = F.normalize(maps.flatten(2).mT, dim=2).contiguous()
    num_cells = cells_BMD.shape[1]
    near_BN = torch.randint(num_cells, (sets, queries), device=device, generator=generator)
    queries_BND = cells_BMD.take_along_dim(near_BN[..., None], dim=1)
    noise_BND = torch.randn(queries_BND.shape, device=device, generator=generator)
    queries_BND = F.normalize(queries_BND + 0.02 * noise_BND, dim=2)
    points_BN2 = torch.stack([near_BN % grid.width, near_BN // grid.width], dim=2).float()
    points_BN2 = points_BN2 * grid.stride + grid.offset
    valid_BM = torch.rand(sets, num_cells, device=device, generator=generator) < 0.9
    return queries_BND, cells_BMD, valid_BM, Exclusion(points_BN2, grid, 16.0)


def synchronised(_: object) -> None:
    torch.cuda.synchronize()


def peak_mib(function: Callable[[], object]) -> float:
    """GPU memory that a call allocates at its peak, MiB."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def train_config(conditions: Conditions, **values: Any) -> TrainConfig:
    """Crops of 480 x 320, 16 pairs a batch; a test of this script takes small ones."""
    is_quick = conditions["quick"]
    width, height = (64, 48) if is_quick else (480, 320)
    sizes = {
        "augmentation": {"crop_width": width, "crop_height": height},
        "batch_size": 4 if is_quick else 16,
        "points": 64 if is_quick else 1024,
        "schedule": {"warmup_steps": 0},
    }
    return TrainConfig.model_validate(sizes | values)


def step_row(network: str, conditions: Conditions) -> Row:
    """A training step beside both passes of the bare network, by benchmarks/step.py."""
    loss = LOSSES[network]
    config = train_config(conditions, network={"name": network}, loss={"name": loss})
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        step_benchmark._report(config, 1 if conditions["quick"] else 7, conditions["device"])
    _, _, bare, whole, ratio, synchronisations = printed.getvalue().strip("| \n").split(" | ")
    rate = 1e3 * config.batch_size / float(whole.split()[0])
    return Row(
        measured=f"step with {loss} {whole}, {rate:.3g} pairs/s",
        reference=f"bare network {bare}",
        ratio=float(ratio),
        check=f"{synchronisations} synchronisations of host and device",
    )


def loader_row(conditions: Conditions) -> Row:
    """Training batches a second alone, and training from them."""
    config = train_config(conditions, steps=5 if conditions["quick"] else 60)
    dataset = encoded_pairs(8 if conditions["quick"] else 64)
    sampler = Sampler((len(dataset),), config.batch_size, config.seed)
    device = torch.device(conditions["device"])
    batches = training_batches(dataset, sampler, 1, config, device=device)
    for _ in range(2):
        next(batches)
    start = time.perf_counter()
    taken = sum(1 for _ in batches)
    alone = config.batch_size * taken / (time.perf_counter() - start)
    _, training = timed_fit(config, dataset, device=device)
    return Row(
        measured=f"batches alone {alone:.3g} pairs/s",
        reference=f"training from them {training:.3g} pairs/s",
        ratio=alone / training,
        check="above 1 where batches are made faster than they are used",
    )


def encoded_pairs(count: int) -> EncodedPairs:
    """Textures of KITTI's size, and the same from further right and down."""
    files = []
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (100, 300), dtype=np.uint8)
        texture = cv2.resize(noise, (1242 + SHIFT[0], 375 + SHIFT[1]))
        views = texture[:375, :1242], texture[SHIFT[1] :, SHIFT[0] :]
        files.append(tuple(cv2.imencode(".png", view)[1] for view in views))
    return EncodedPairs(files)


def timed_fit(config: TrainConfig, data: EncodedPairs, **worker: Any) -> tuple[TrainState, float]:
    """Train, and return the state and the pairs a second of the later steps."""
    speeds: list[float] = []
    sampler = Sampler((len(data),), config.batch_size, config.seed)

    def log(step: int, metrics: Metrics) -> None:
        speeds.append(metrics["pairs_per_second"])

    state = fit(config, data, None, Worker(log, lambda step, write: None, **worker), sampler)
    return state, median(speeds[len(speeds) // 2 :] or [0.0])


def distributed_row(conditions: Conditions) -> Row:
    """Steps of several processes, which end with the weights of one process."""
    several, backend = train_in_processes(conditions, PROCESSES)
    alone, _ = train_in_processes(conditions, 1)
    difference = max(
        float((several["weights"][name] - value).abs().max())
        for name, value in alone["weights"].items()
    )
    return Row(
        measured=f"{backend}, {several['speed']:.3g} pairs/s",
        reference=f"one process {alone['speed']:.3g} pairs/s",
        ratio=several["speed"] / alone["speed"],
        check=f"weights differ by {difference:.1e}",
        holds=difference < MAX_DIFFERENCE,
    )


def train_in_processes(conditions: Conditions, processes: int) -> tuple[dict[str, Any], str]:
    """Weights and speed of a short training, and the backend of ``torch.distributed``."""
    # NCCL refuses processes that share a GPU.
    backend = "nccl" if conditions.get("GPUs", 0) >= processes else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        spawn(train, (processes, backend, Path(folder), conditions), nprocs=processes)  # type: ignore[no-untyped-call]
        return torch.load(Path(folder) / "result.pt", weights_only=True), backend


def train(rank: int, processes: int, backend: str, folder: Path, conditions: Conditions) -> None:
    """One process: float32 and SGD, since Adam enlarges the rounding of small gradients."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    device = torch.device(conditions["device"])
    if device.type == "cuda":
        device = torch.device("cuda", rank % conditions["GPUs"])
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=processes
    )
    config = train_config(
        conditions,
        steps=3 if conditions["quick"] else 16,
        bfloat16=False,
        optimiser={"name": "sgd"},
    )
    state, speed = timed_fit(
        config,
        encoded_pairs(2 * config.batch_size),
        wrap=distributed if processes > 1 else lambda network: network,
        rank=rank,
        world_size=processes,
        device=device,
    )
    if rank == 0:
        weights = {name: value.float().cpu() for name, value in state.network.state_dict().items()}
        torch.save({"weights": weights, "speed": speed}, folder / "result.pt")
    dist.destroy_process_group()
