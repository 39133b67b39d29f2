"""A whole training step beside the forward and backward pass of the bare network.

Whole: images to the device, both passes, sampling, mining, loss, gradient norm, optimiser, running
statistics. The pairs are made, augmented and at hand; `benchmarks/loading.py` measures that part.
Both run in the environment of a training worker.
On a GPU, the last column counts the synchronisations of host and device in a step; reading the
metrics, every few steps, is not part of it.
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import Tensor

from ucn.cluster.cpus import WORKER_ENVIRONMENT
from ucn.training.config import TrainConfig
from ucn.training.data.collate import collate
from ucn.training.data.pairs import Item
from ucn.training.loop.batch_statistics import GroupedBatchNorm2d
from ucn.training.loop.state import initial_state
from ucn.training.loop.step import Stepper

_NETWORKS = ("small", "googlenet", "resunet")
_LOSSES = ("contrastive", "hardest_contrastive", "infonce")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=_NETWORKS)
    parser.add_argument("--losses", nargs="+", default=_LOSSES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if not WORKER_ENVIRONMENT.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | WORKER_ENVIRONMENT)
    torch.set_num_threads(options.threads)
    print("| network | loss | bare network | whole step | ratio | synchronisations |")
    print("| --- | --- | --- | --- | --- | --- |")
    for network in options.networks:
        for loss in options.losses:
            values = {"network": {"name": network}, "loss": {"name": loss}}
            _report(TrainConfig.model_validate(values), options.rounds, options.device)


def _report(config: TrainConfig, rounds: int, device: str) -> None:
    state = initial_state(config, torch.device(device))
    stepper = Stepper(config, state, state.network)
    pairs = [_pair(number, state.network.channels, config) for number in range(config.batch_size)]
    in_group = config.pairs_in_group
    packed = collate(pairs)
    if device == "cuda":
        packed = packed.pin_memory()
    in_pass = len(pairs) if device == "cuda" else in_group  # as the step has it
    images = [
        (
            torch.stack([image for pair in pairs[i : i + in_pass] for image in pair.images])
            .to(device)
            .div(255)
            .contiguous(memory_format=torch.channels_last)
        )
        for i in range(0, len(pairs), in_pass)
    ]
    with torch.autocast(device, torch.bfloat16):
        slope = torch.randn_like(state.network(images[0]))

    def whole() -> None:
        stepper.step(1, packed.to(torch.device(device)))

    def bare() -> None:
        state.network.zero_grad(set_to_none=True)
        for batch in images:
            with torch.autocast(device, torch.bfloat16):
                features: Tensor = state.network(batch)
            features.backward(slope)  # type: ignore[no-untyped-call]
        for norm in norms:
            norm.statistics.clear()

    norms = [norm for norm in state.network.modules() if isinstance(norm, GroupedBatchNorm2d)]
    for norm in norms:
        norm.statistics.clear()
    times: dict[str, list[float]] = {"bare": [], "whole": []}
    for number in range(rounds + 1):
        for name, work in (("bare", bare), ("whole", whole)):
            start = time.perf_counter()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            if number > 0:
                times[name].append(time.perf_counter() - start)
    ratio = median(a / b for a, b in zip(times["whole"], times["bare"], strict=True))
    print(
        f"| {config.network.name} | {config.loss.name} | {1e3 * median(times['bare']):.0f} ms | "
        f"{1e3 * median(times['whole']):.0f} ms | {ratio:.2f} | "
        f"{_synchronisations(whole) if device == 'cuda' else '-'} |",
        flush=True,
    )


def _synchronisations(work: Callable[[], object]) -> int:
    """How often the host waits for the GPU."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        work()
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def _pair(number: int, channels: int, config: TrainConfig) -> Item:
    """Noise, with correspondences all over."""
    rng = np.random.default_rng(number)
    size = np.array([config.augmentation.crop_width, config.augmentation.crop_height])
    images = torch.from_numpy(rng.integers(0, 256, (2, channels, *size[::-1]), dtype=np.uint8))
    matches = rng.uniform(0, np.tile(size - 1, 2), (config.points, 4)).astype(np.float32)
    return Item(
        key=str(number),
        images=(images[0], images[1]),
        matches_N4=torch.from_numpy(matches),
        valid=None,
        seed=number,
    )


if __name__ == "__main__":
    main()
