"""Training batches by windows from an S3 server beside local shards in global order.

The server is moto's, in a process of its own on loopback; it counts GETs. The cache holds a part of
the dataset. Ratios of speed are of turns that follow each other. The order is measured by the rank
correlation of the place in the dataset with the place in the epoch, and by how many tars a batch
draws from, beside the global order.
"""

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import fmean, median
from typing import Any

import boto3
import numpy as np
import torch
from scipy.stats import spearmanr

from ucn.preprocessing.shards.read import ShardDataset
from ucn.training.config import TrainConfig
from ucn.training.data.inputs import open_datasets, training_sampler
from ucn.training.data.loader import training_batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path, required=True, help="local folder of shards")
    parser.add_argument("--cache", type=float, default=0.1, help="size, part of the dataset")
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3, help="rounds; each is one epoch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = ShardDataset(options.shards)
    gib = dataset.manifest.totals.bytes / 2**30
    shards = dataset.manifest.shards
    print(f"{len(dataset)} samples in {len(shards)} tars, {gib:.3f} GiB; cache {options.cache:g}")
    with tempfile.TemporaryDirectory() as cache, counting_server() as gets:
        os.environ["XDG_CACHE_HOME"] = cache
        upload(options.shards)
        readers = {"readers": options.readers}
        local = TrainConfig(data={"shards": str(options.shards), **readers}, steps=10**9)
        windows = TrainConfig(
            data={"shards": "s3://bench/shards", "cache_gib": options.cache * gib, **readers},
            steps=10**9,
        )
        streams = {"local, global": batches(local), "S3, windows": batches(windows)}
        steps = len(dataset) // local.batch_size
        times: dict[str, list[float]] = {name: [] for name in streams}
        counts = []
        for _ in range(options.epochs):
            for name, stream in streams.items():
                before, start = gets(), time.perf_counter()
                for _ in range(steps):
                    next(stream)
                times[name].append(time.perf_counter() - start)
                if name == "S3, windows":
                    counts.append((gets() - before) / len(shards))
        orders = [randomness(dataset, config) for config in (local, windows)]
    ratio = median(a / b for a, b in zip(*times.values(), strict=True))
    print("| | samples/s | ratio | GETs a tar and epoch | rank correlation | tars a batch |")
    print("|---" + 5 * "|---:" + "|")
    for name, (correlation, tars) in zip(times, orders, strict=True):
        rate = median(steps * local.batch_size / seconds for seconds in times[name])
        is_windows = name == "S3, windows"
        per_epoch = ", ".join(f"{count:.2f}" for count in counts) if is_windows else ""
        print(
            f"| {name} | {rate:.1f} | {ratio if is_windows else 1:.2f} | {per_epoch} | "
            f"{correlation:.3f} | {tars:.2f} |"
        )


def batches(config: TrainConfig) -> Iterator[Any]:
    training, _ = open_datasets(config)
    return training_batches(training, training_sampler(config, training), 1, config)


def randomness(dataset: ShardDataset, config: TrainConfig, epochs: int = 20) -> tuple[float, float]:
    """Mean absolute rank correlation over the epochs, and mean number of tars of a batch."""
    training, _ = open_datasets(config)
    sampler = training_sampler(config, training)
    correlations, tars = [], []
    for epoch in range(epochs):
        places = range(epoch * len(dataset), (epoch + 1) * len(dataset))
        order = [sampler.draw(place).sample for place in places]
        correlations.append(abs(float(spearmanr(order, range(len(order))).statistic)))
        which = np.searchsorted(dataset.shard_ends, order, side="right")
        size = config.batch_size
        tars += [len(set(which[i : i + size])) for i in range(0, len(which) - size + 1, size)]
    return fmean(correlations), fmean(tars)


@contextmanager
def counting_server() -> Iterator[Any]:
    """Run an S3 server; yield a function that returns the number of GETs of tars so far."""
    spawn = multiprocessing.get_context("spawn")
    address, count, stop = spawn.SimpleQueue(), spawn.Value("i", 0), spawn.Event()
    process = spawn.Process(target=serve, args=(address, count, stop), daemon=True)
    process.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": address.get(),
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    yield lambda: count.value
    stop.set()
    process.join()


def serve(address: "SimpleQueue[str]", count: Any, stop: Event) -> None:
    """Serve S3 until ``stop`` is set."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    moto = DomainDispatcherApplication(create_backend_app)

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: Any) -> None: ...

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].endswith(".tar"):
            with count.get_lock():
                count.value += 1
        return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Quiet)

    threading.Thread(target=server.serve_forever, daemon=True).start()
    address.put(f"http://127.0.0.1:{server.server_port}")
    stop.wait()
    server.shutdown()


def upload(folder: Path) -> None:
    """Copy the shards into the bucket."""
    client = boto3.client("s3")
    client.create_bucket(Bucket="bench")
    for path in folder.iterdir():
        client.upload_file(str(path), "bench", f"shards/{path.name}")


if __name__ == "__main__":
    main()
