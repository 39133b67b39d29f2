"""What an evaluation's time goes into, and what a second worker gains.

    python benchmarks/evaluate.py --model MODEL --shards SHARDS [--pairs 100]

First, on some pairs in one process and one thread: the two forward passes and the matrix products
of the search, which nothing can do without, beside the whole evaluation of the pair (decoding,
points, sampling, search there and back, pose). Then `ucn evaluate` with 1 and with 2 workers on all
pairs; the start of Ray and of the workers is taken off with a run of as many pairs as workers.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from ucn.cluster.session import ray_session
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.job import choose_indices, evaluate
from ucn.evaluation.worker import PairWorker
from ucn.preprocessing.shards.read import ShardDataset
from ucn.training.config import TrackingConfig
from ucn.training.model import load_model
from ucn.training.networks.describe import describe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--timed-pairs", type=int, default=10)
    options = parser.parse_args()
    print_parts(options.model, options.shards, options.timed_pairs)
    print_workers(options.model, options.shards, options.pairs)


def print_parts(model: str, shards: str, pairs: int) -> None:
    """Time the unavoidable part of a pair beside the whole of it, in turns."""
    config = EvaluateConfig(shards=(shards,), model=(model,), baselines=())
    worker = PairWorker(config, [shards])
    dataset = ShardDataset(shards)
    network = load_model(model)
    ratios, floors, wholes = [], [], []
    for index in choose_indices(dataset, pairs):
        sample = dataset[index]
        images = sample.image0, sample.image1
        queries_N2 = sample.matches_N4[: config.points, :2].copy()
        features = [network.extract(image) for image in images]
        queries_ND = features[0].read(queries_N2)
        cells = [one.lattice(config.matching.grid_step)[0] for one in features]
        forward = sum(timed(partial(describe, network.network, image, False)) for image in images)
        products = sum(timed(partial(torch.mm, queries_ND, cells_MD.T)) for cells_MD in cells)
        whole = timed(partial(match_and_score, worker, index))
        floors.append(forward + products)
        wholes.append(whole)
        ratios.append(whole / (forward + products))
    print("| one pair, one thread | seconds |\n|:--|--:|")
    print(f"| two forward passes and two products | {statistics.median(floors):.3f} |")
    print(f"| whole evaluation | {statistics.median(wholes):.3f} |")
    print(f"| ratio | {statistics.median(ratios):.2f} |\n")


def match_and_score(worker: PairWorker, index: int) -> None:
    worker.score(0, index, worker.match(0, index, list(worker.methods)))


def print_workers(model: str, shards: str, pairs: int) -> None:
    """Time whole evaluations with 1 and 2 workers."""
    seconds = {}
    with ray_session(2), tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            config = EvaluateConfig(
                shards=(shards,),
                model=(model,),
                baselines=(),
                pictures=0,
                workers=workers,
                tracking=TrackingConfig(enabled=False),
            )
            times = [
                timed(
                    partial(
                        evaluate,
                        config.model_copy(
                            update={"pairs": count, "output": Path(folder) / f"{workers}-{count}"}
                        ),
                    )
                )
                for count in (workers, pairs)
            ]
            seconds[workers] = times[1] - times[0]
    print(f"| {pairs} pairs | seconds after the start |\n|:--|--:|")
    for workers, value in seconds.items():
        print(f"| {workers} worker{'s' if workers > 1 else ''} | {value:.1f} |")
    print(f"| ratio | {seconds[1] / seconds[2]:.2f} |")


def timed(run: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
