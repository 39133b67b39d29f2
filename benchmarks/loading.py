"""Samples a second by random access, beside reading the same tars in order and decoding alone.

Both sides decode the same samples with the same number of threads, ahead of a consumer that does
nothing. Side by side in one run, in turns; ratios, above 1 where it is faster, are of turns that
follow each other. Training batches (crops, light, tensors) come on top, and are stated apart.
"""

import argparse
import statistics
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2

from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.encode import decode_sample
from ucn.preprocessing.shards.read import ShardDataset
from ucn.training.config import TrainConfig
from ucn.training.data.pairs import map_ahead, training_batches
from ucn.training.data.sampler import Sampler

AHEAD = 16


class Turn(NamedTuple):
    """Seconds a sample in one turn; those of the CPUs do not depend on what else they do."""

    wall_s: float
    cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path, required=True, help="local folder of shards")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    dataset = ShardDataset(options.shards)
    sampler = Sampler((len(dataset),), 4, 0)
    ways: dict[str, Callable[[], int]] = {
        "tars read in order, decoded": lambda: in_order(options.shards, options.threads),
        "random access through the sidecars, decoded": lambda: at_random(
            dataset, sampler, options.threads
        ),
        "training batches: the same, augmented": lambda: batches(dataset, sampler, options.threads),
    }
    turns = side_by_side(ways, options.rounds)
    size = dataset.manifest.totals.bytes / len(dataset) / 1e6
    print(f"{len(dataset)} samples of {size:.2f} MB, {options.threads} threads")
    print("| | samples/s | ratio | CPU ms a sample | ratio |\n|---|---:|---:|---:|---:|")
    baseline = next(iter(turns.values()))
    for name, found in turns.items():
        wall = statistics.median(b.wall_s / a.wall_s for a, b in zip(found, baseline, strict=True))
        cpu = statistics.median(b.cpu_s / a.cpu_s for a, b in zip(found, baseline, strict=True))
        rate = statistics.median(1 / turn.wall_s for turn in found)
        milliseconds = statistics.median(1e3 * turn.cpu_s for turn in found)
        print(f"| {name} | {rate:.1f} | {wall:.2f} | {milliseconds:.1f} | {cpu:.2f} |")


def in_order(folder: Path, threads: int) -> int:
    """Read the tars member by member and decode their samples; return their number."""
    decoded = map_ahead(lambda sample: decode_sample(*sample), members(folder), threads, AHEAD)
    return sum(1 for _ in decoded)


def members(folder: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
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


def at_random(dataset: ShardDataset, sampler: Sampler, threads: int) -> int:
    """Read and decode all samples in the order of an epoch; return their number."""
    indices = (sampler.draw(place).sample for place in range(len(dataset)))
    decoded: Iterator[Sample] = map_ahead(dataset.__getitem__, indices, threads, AHEAD)
    return sum(1 for _ in decoded)


def batches(dataset: ShardDataset, sampler: Sampler, threads: int) -> int:
    """Make the training batches of an epoch; return the number of their pairs."""
    config = TrainConfig.model_validate(
        {
            "data": {"reader_threads": threads},
            "batch_size": sampler.batch_size,
            "steps": len(dataset) // sampler.batch_size,
            "schedule": {"warmup_steps": 0},
        }
    )
    made = training_batches(dataset, sampler, 1, config)
    return sum(len(group) for groups in made for group in groups)


def side_by_side(ways: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[Turn]]:
    """Time each way in each round, after one that is not counted."""
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            count = way()
            turn = (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count
            turns[name].append(Turn(*turn))
    return {name: found[1:] for name, found in turns.items()}


if __name__ == "__main__":
    main()
