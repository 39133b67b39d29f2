"""What planning and bookkeeping cost, without the work: a plan of a million pairs, empty tasks.

A shard of 50 pairs is half a second to two seconds of work, so 10 ms a shard are 2 % of the least.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from ucn.cluster.session import ray_session
from ucn.cluster.tasks import run_tasks
from ucn.errors import UserError
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.plan import ShardPlan, plan_shards
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.format import (
    MANIFEST,
    IndexEntry,
    Sidecar,
    digest,
    sidecar_name,
    to_json,
)
from ucn.preprocessing.sources.base import PairRef, Source

Result = TypeVar("Result")

_SEQUENCE_PAIRS = 1000
_MEMBERS = ("attributes.npz", "image0.png", "image1.png", "json", "matches.npy")


class FakeConfig(PreprocessConfig):
    """Pairs without files behind them."""

    source: Literal["fake"] = "fake"
    pairs: int = 1_000_000
    """How many pairs there are."""

    def open_source(self) -> Source:
        return FakeSource(self)


class FakeSource:
    """Drives of a thousand pairs, named as KITTI's are, with six files a pair."""

    def __init__(self, config: FakeConfig) -> None:
        self._config = config

    def pairs(self) -> list[PairRef]:
        found = []
        for start in range(0, self._config.pairs, _SEQUENCE_PAIRS):
            sequence = f"2011_09_26_drive_{start // _SEQUENCE_PAIRS:04d}-image_02"
            frames = [f"{frame:010d}" for frame in range(_SEQUENCE_PAIRS + 1)]
            count = min(_SEQUENCE_PAIRS, self._config.pairs - start)
            found += [PairRef(sequence, frames[i], frames[i + 1]) for i in range(count)]
        return found

    def key(self, pair: PairRef) -> str:
        return f"{pair.sequence}-{pair.frame0}-{pair.frame1}"

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        return [
            [f"{pair.sequence}/{kind}/{frame}", 1_900_000]
            for frame in (pair.frame0, pair.frame1)
            for kind in ("image", "scan", "oxts")
        ]

    def load(self, pair: PairRef) -> Sample:
        raise UserError(f"{pair.sequence}: nothing is loaded here")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000, help="pairs of the plan")
    parser.add_argument("--shards", type=int, default=10_000, help="shards of the other rows")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print("| what | shards | s | ms a shard |\n| --- | --- | --- | --- |")
    config = FakeConfig(out="", pairs=options.pairs)
    plans = timed("plan", lambda: plan_shards(config.open_source(), config))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    tasks = [(config, plan) for plan in plans[: options.shards]]
    with ray_session(options.workers):
        list(run_tasks(no_work, tasks[:100], options.workers))
        timed("tasks without work", lambda: list(run_tasks(no_work, tasks, options.workers)))
    with tempfile.TemporaryDirectory() as folder:
        config = FakeConfig(out=folder, pairs=options.shards * 50)
        plans = plan_shards(config.open_source(), config)
        for plan in plans:
            lay_down(Path(folder), config, plan)
        work = [plan.name for plan in plans]
        timed("resume: all shards stand, no manifest", lambda: (preprocess(config), work)[1])
        timed("rerun: the manifest stands too", lambda: (preprocess(config), work)[1])
        size = (Path(folder) / MANIFEST).stat().st_size
    print(f"\nPlan of {options.pairs:,} pairs: {peak:.0f} MiB at most, libraries included.")
    print(f"Manifest: {size / len(work):.0f} bytes a shard.")


def timed(what: str, work: Callable[[], list[Result]]) -> list[Result]:
    """Do the work, print its row, and return one result a shard."""
    start = time.perf_counter()
    results = work()
    seconds = time.perf_counter() - start
    print(f"| {what} | {len(results):,} | {seconds:.1f} | {1e3 * seconds / len(results):.2f} |")
    return results


def no_work(task: tuple[FakeConfig, ShardPlan]) -> int:
    """What a worker is handed, and nothing done with it."""
    return len(task[1].pairs)


def lay_down(folder: Path, config: FakeConfig, plan: ShardPlan) -> None:
    """A shard as a run leaves it, but for its samples' bytes."""
    source = config.open_source()
    index = [
        IndexEntry(
            key=source.key(pair),
            sequence=pair.sequence,
            matches=5000,
            members={name: (i * 700_000, 100_000) for i, name in enumerate(_MEMBERS)},
        )
        for pair in plan.pairs
    ]
    sidecar = Sidecar(
        shard=plan.name,
        configuration=digest(config.content()),
        fingerprint=plan.fingerprint,
        samples=len(index),
        matches=5000 * len(index),
        bytes=1,
        sha256=digest(plan.name),
        index=index,
        skipped=[],
    )
    (folder / plan.name).write_bytes(b"\0")
    (folder / sidecar_name(plan.name)).write_text(to_json(sidecar))


if __name__ == "__main__":
    main()
