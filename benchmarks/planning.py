"""Cost of planning and bookkeeping: a million pairs, empty tasks, a made-up COLMAP model.

A shard of 50 pairs is half a second to two seconds of work, so 10 ms a shard are 2 % of the least.
"""

import argparse
import os
import pickle
import resource
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np

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
from ucn.preprocessing.sources.base import PairReader, PairRef, Source
from ucn.preprocessing.sources.sfm.colmap import ColmapConfig, ColmapSource

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
    parser.add_argument("--images", type=int, default=10_000, help="images of the COLMAP model")
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
    with tempfile.TemporaryDirectory() as folder:
        write_colmap_model(Path(folder), options.images)
        plan_colmap(Path(folder))


def plan_colmap(root: Path) -> None:
    """Prints the cost of a plan and of one task of the colmap source."""
    config = ColmapConfig(root=str(root), out="")
    start = time.perf_counter()
    source = ColmapSource(config)
    plans = plan_shards(source, config)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    pairs = sum(len(plan.pairs) for plan in plans)
    print(f"Plan of a COLMAP model: {pairs:,} pairs, {seconds:.1f} s, {peak:.0f} MiB at most.")
    pair_list = plans[len(plans) // 2].pairs
    start = time.perf_counter()
    data = pickle.dumps(source.reader(pair_list))
    seconds = time.perf_counter() - start
    print(f"Its reader, made in the driver: {seconds:.2f} s, {len(data) / 2**20:.1f} MiB.")
    start = time.perf_counter()
    reader: PairReader = pickle.loads(data)
    for pair in pair_list:
        reader.load(pair)
    print(f"One task of {len(pair_list)} pairs: {time.perf_counter() - start:.1f} s.")


def write_colmap_model(root: Path, images: int) -> None:
    """A camera that moves sideways; about 2,000 observations an image, tracks of 3 to 12 images."""
    rng = np.random.default_rng(0)
    lengths_P = np.sort(np.minimum(3 + rng.poisson(3, images * 2000 // 6), 12))
    starts_P = rng.integers(0, images - 24, len(lengths_P))
    points_P3 = rng.uniform([0, -2, 5], [0, 2, 10], (len(lengths_P), 3))
    points_P3[:, 0] = 0.1 * (starts_P + lengths_P)
    point_N = np.repeat(np.arange(len(lengths_P)), lengths_P)
    place_N = np.arange(len(point_N)) - np.repeat(np.cumsum(lengths_P) - lengths_P, lengths_P)
    image_N = starts_P[point_N] + 2 * place_N
    seen_N3 = points_P3[point_N] - np.stack([0.1 * image_N, *np.zeros((2, len(point_N)))], axis=1)
    detections_N = np.zeros(len(point_N), [("pixel", "<f8", 2), ("point", "<i8")])
    detections_N["pixel"] = 400 * seen_N3[:, :2] / seen_N3[:, 2:] + [320.0, 240.0]
    detections_N["pixel"] += rng.normal(0, 0.5, (len(point_N), 2))
    detections_N["point"] = point_N + 1
    order_N = np.argsort(image_N, kind="stable")
    ends_I = np.searchsorted(image_N[order_N], np.arange(images + 1))
    (root / "sparse").mkdir()
    (root / "images").mkdir()
    photo = rng.integers(0, 256, (48, 64), np.uint8)
    cv2.imwrite(str(root / "photo.png"), cv2.resize(photo, (640, 480)))
    camera = struct.pack("<QiiQQ4d", 1, 1, 1, 640, 480, 400, 400, 320, 240)
    (root / "sparse/cameras.bin").write_bytes(camera)
    with (root / "sparse/images.bin").open("wb") as file:
        file.write(struct.pack("<Q", images))
        for image in range(images):
            own_M = detections_N[order_N[ends_I[image] : ends_I[image + 1]]]
            file.write(struct.pack("<i7di", image + 1, 1, 0, 0, 0, -0.1 * image, 0, 0, 1))
            file.write(f"{image:06d}.png".encode() + struct.pack("<xQ", len(own_M)))
            own_M.tofile(file)
            os.link(root / "photo.png", root / f"images/{image:06d}.png")
    with (root / "sparse/points3D.bin").open("wb") as file:
        file.write(struct.pack("<Q", len(lengths_P)))
        for length in np.unique(lengths_P):
            own_L = np.flatnonzero(lengths_P == length)
            layout = [("number", "<i8"), ("point", "<f8", 3), ("colour", "u1", 3)]
            more = [("error", "<f8"), ("length", "<i8"), ("track", "<i4", (length, 2))]
            records_L = np.zeros(len(own_L), np.dtype([*layout, *more]))
            records_L["number"], records_L["point"] = own_L + 1, points_P3[own_L]
            records_L["length"] = length
            records_L["track"][..., 0] = starts_P[own_L, None] + 2 * np.arange(length) + 1
            records_L.tofile(file)


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
