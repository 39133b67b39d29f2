"""Training batches a second beside reading, decoding and augmenting the same samples alone.

Each way runs in as many processes as there are readers, of one thread each, and the consumer does
nothing. Side by side in one run, in turns; ratios, above 1 where it is faster, are of turns that
follow each other. Those of the CPU time hold on a busy machine, too. The last columns are a
training step with its next batch over a step with the same batch at hand: of wall time, and of the
CPU time of the trainer's process.
"""

import argparse
import itertools
import multiprocessing
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import cv2
import numpy as np
import psutil  # type: ignore[import-untyped]
import torch

from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.encode import decode_sample
from ucn.preprocessing.shards.read import ShardDataset
from ucn.training.config import TrainConfig
from ucn.training.data.augment import augment_pair
from ucn.training.data.collate import PackedBatch
from ucn.training.data.inputs import Mixture
from ucn.training.data.loader import training_batches
from ucn.training.data.sampler import Sampler
from ucn.training.loop.state import initial_state
from ucn.training.loop.step import Stepper

CPU = torch.device("cpu")
DECODED, RANDOM = "tars read in order, decoded", "random access through the sidecars, decoded"
AUGMENTED, BATCHES = "tars read in order, decoded, augmented", "training batches"


class Turn(NamedTuple):
    """Seconds a sample in one turn: of wall time, and of CPU time in all processes."""

    wall_s: float
    cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path, required=True, help="local folder of shards")
    parser.add_argument("--readers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=200, help="a turn, of each process")
    parser.add_argument("--steps", type=int, default=20, help="training steps; 0 leaves them out")
    parser.add_argument("--crop", type=int, nargs=2, default=[320, 176], help="width and height")
    parser.add_argument("--channels", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = ShardDataset(options.shards)
    size = dataset.manifest.totals.bytes / len(dataset) / 1e6
    crop = "x".join(map(str, options.crop))
    print(f"{len(dataset)} samples of {size:.2f} MB, crops of {crop}, {options.channels} channels")
    print(
        "| | samples/s | ratio | CPU ms a sample | ratio | processes | to augmented tars | CPU | "
        "step slowed to | CPU |\n" + "|---" + 9 * "|---:" + "|"
    )
    for readers in options.readers:
        config = TrainConfig(
            data={"readers": readers},
            augmentation={"crop_width": options.crop[0], "crop_height": options.crop[1]},
            steps=10**9,
        )
        report(options, dataset, config, readers)


def report(
    options: argparse.Namespace, dataset: ShardDataset, config: TrainConfig, readers: int
) -> None:
    """Print the rows of one number of processes."""
    sampler = Sampler((len(dataset),), config.batch_size, config.seed)
    batches = training_batches(Mixture([dataset]), sampler, options.channels, config)
    made = next(batches)
    readers_cpu = [psutil.Process(child.pid) for child in multiprocessing.active_children()]
    passes = -(-options.samples // len(dataset))
    with ProcessPoolExecutor(readers, multiprocessing.get_context("spawn")) as pool:
        ways: dict[str, Callable[[], Turn]] = {
            DECODED: partial(alone, pool, readers, in_order, options.shards, passes, None),
            RANDOM: partial(alone, pool, readers, at_random, dataset, passes, None),
            AUGMENTED: partial(alone, pool, readers, in_order, options.shards, passes, config),
            BATCHES: partial(consume, batches, readers_cpu, readers * options.samples),
        }
        turns = side_by_side(ways, options.rounds)
    steps = slowdown(config, batches, made, options.steps) if options.steps else ("-", "-")
    for name, found in turns.items():
        beside = [ratios(found, turns[other]) for other in (DECODED, AUGMENTED)]
        rate = median(1 / turn.wall_s for turn in found)
        milliseconds = median(1e3 * turn.cpu_s for turn in found)
        more = (*(f"{ratio:.2f}" for ratio in beside[1]), *steps) if name == BATCHES else 4 * ("",)
        print(
            f"| {name} | {rate:.1f} | {beside[0].wall_s:.2f} | {milliseconds:.1f} | "
            f"{beside[0].cpu_s:.2f} | {readers} | {' | '.join(more)} |",
            flush=True,
        )


def ratios(found: list[Turn], baseline: list[Turn]) -> Turn:
    """How many times as fast as the baseline: medians over the rounds."""
    rounds = list(zip(found, baseline, strict=True))
    return Turn(
        median(b.wall_s / a.wall_s for a, b in rounds),
        median(b.cpu_s / a.cpu_s for a, b in rounds),
    )


def alone(
    pool: ProcessPoolExecutor,
    processes: int,
    way: Callable[..., tuple[int, float]],
    *arguments: object,
) -> Turn:
    """Run a way in each of the processes."""
    start = time.perf_counter()
    found = [future.result() for future in [pool.submit(way, *arguments) for _ in range(processes)]]
    count = sum(number for number, _ in found)
    return Turn((time.perf_counter() - start) / count, sum(cpu_s for _, cpu_s in found) / count)


def in_order(folder: Path, passes: int, config: TrainConfig | None) -> tuple[int, float]:
    """Read the tars member by member, decode their samples, and augment them by ``config``.

    Returns:
        number of samples, and CPU seconds.
    """
    cv2.setNumThreads(1)
    start, count = time.process_time(), 0
    for key, members in itertools.chain(*(read_tars(folder) for _ in range(passes))):
        sample = decode_sample(key, members)
        if config is not None:
            augment(sample, config, count)
        count += 1
    return count, time.process_time() - start


def augment(sample: Sample, config: TrainConfig, seed: int) -> None:
    """Augment a sample as for training."""
    augment_pair(
        sample.image0,
        sample.image1,
        sample.matches_N4,
        config.augmentation,
        config.min_matches,
        np.random.default_rng(seed),
    )


def read_tars(folder: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the key of each sample with its members by suffix."""
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path, "r|") as tar:
            key, found = "", dict[str, bytes]()
            for info in tar:
                name, _, suffix = info.name.partition(".")
                if name != key and found:
                    yield key, found
                    found = {}
                file = tar.extractfile(info)
                assert file is not None, "members are files"
                key, found[suffix] = name, file.read()
            yield key, found


def at_random(dataset: ShardDataset, passes: int, _: None) -> tuple[int, float]:
    """Read and decode samples in the order of training; returns as `in_order`."""
    cv2.setNumThreads(1)
    start, count = time.process_time(), passes * len(dataset)
    sampler = Sampler((len(dataset),), 1, 0)
    for place in range(count):
        dataset[sampler.draw(place).sample]
    return count, time.process_time() - start


def consume(
    batches: Iterator[PackedBatch], readers: list[psutil.Process], num_samples: int
) -> Turn:
    """Take training batches, after those that the readers have made in advance."""

    def cpu_s() -> float:
        return time.process_time() + sum(sum(reader.cpu_times()[:2]) for reader in readers)

    for _ in range(2 * len(readers)):
        next(batches)
    wall, cpu, count = time.perf_counter(), cpu_s(), 0
    while count < num_samples:
        count += len(next(batches).keys)
    return Turn((time.perf_counter() - wall) / count, (cpu_s() - cpu) / count)


def slowdown(
    config: TrainConfig, batches: Iterator[PackedBatch], first: PackedBatch, steps: int
) -> tuple[str, str]:
    """Time of a step with its next batch, over that of a step with the same batch again."""
    state = initial_state(config, CPU)
    stepper = Stepper(config, state, state.network)
    stepper.step(1, first.to(CPU))
    walls, cpus = [], []
    for _ in range(steps):
        marks = [(time.perf_counter(), time.process_time())]
        batch = next(batches).to(CPU)
        for _ in range(2):
            stepper.step(1, batch)
            marks.append((time.perf_counter(), time.process_time()))
        (wall0, cpu0), (wall1, cpu1), (wall2, cpu2) = marks
        walls.append((wall1 - wall0) / (wall2 - wall1))
        cpus.append((cpu1 - cpu0) / (cpu2 - cpu1))
    return f"{median(walls):.3f}", f"{median(cpus):.3f}"


def side_by_side(ways: dict[str, Callable[[], Turn]], rounds: int) -> dict[str, list[Turn]]:
    """Time each way in each round, after one that is not counted."""
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            turns[name].append(way())
    return {name: found[1:] for name, found in turns.items()}


if __name__ == "__main__":
    main()
