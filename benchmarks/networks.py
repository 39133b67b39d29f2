"""What the networks cost: speed, size, stride and receptive field, side by side in one run.

Prints a Markdown table. Forward passes are over one VGA image; training passes (forward and
backward) over a pair of crops, in bfloat16. All take turns, and the best of the rounds counts,
since a machine that others use as well only ever makes a round slower.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor

from ucn.training.config import AugmentationConfig
from ucn.training.networks import build_network
from ucn.training.networks.base import DenseNetwork
from ucn.training.networks.folded_norms import fold_norms

VGA = (480, 640)
TURN = 0.5
NETWORKS: tuple[tuple[str, dict[str, str]], ...] = (
    ("small", {}),
    ("googlenet", {}),
    ("resunet", {"variant": "BN2D2"}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    crops = AugmentationConfig()
    networks: dict[str, DenseNetwork] = {}
    calls: list[Callable[[], object]] = []
    for name, settings in NETWORKS:
        network = build_network(name, settings)
        for value in network.parameters():
            value.data = value.data.contiguous(memory_format=layout(value))
        networks[" ".join([name, *settings.values()])] = network
        image = images(1, network, *VGA)
        pair = images(2, network, crops.crop_height, crops.crop_width)
        trained = deepcopy(network).eval()
        fold_norms(trained)
        calls += [
            partial(forward, trained, image, bfloat16=False),
            partial(forward, trained, image, bfloat16=True),
            partial(forward_backward, network, pair),
        ]
    times = best_in_turns(calls, options.rounds)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds\n")
    print(
        "| network | parameters | stride | receptive field | VGA float32 | VGA bf16 | frames/s "
        f"| training pass, two {crops.crop_width}x{crops.crop_height} |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for place, (name, network) in enumerate(networks.items()):
        exact, fast, training = times[3 * place : 3 * place + 3]
        parameters = sum(value.numel() for value in network.parameters()) / 1e6
        print(
            f"| {name} | {parameters:.2f} M | {network.stride} | {network.receptive_field} px "
            f"| {1e3 * exact:.0f} ms | {1e3 * fast:.0f} ms | {1 / fast:.1f} "
            f"| {1e3 * training:.0f} ms |"
        )


def layout(value: Tensor) -> torch.memory_format:
    """Channels last for the kernels of convolutions."""
    return torch.channels_last if value.dim() == 4 else torch.contiguous_format


def images(count: int, network: DenseNetwork, height: int, width: int) -> Tensor:
    """Random images, channels last."""
    noise = torch.rand(count, network.channels, height, width)
    return noise.contiguous(memory_format=torch.channels_last)


def forward(network: DenseNetwork, image: Tensor, *, bfloat16: bool) -> Tensor:
    """Describe as an application does, with a network as `load_model` gives it."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        features: Tensor = network(image)
    return features


def forward_backward(network: DenseNetwork, pair: Tensor) -> None:
    """What a training step cannot do without."""
    with torch.autocast("cpu", torch.bfloat16):
        features = network(pair)
    features.sum().backward()


def best_in_turns(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Seconds of each call at its best; in its turn, a short one is repeated for `TURN` seconds."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for place, call in enumerate(calls):
            call()
            end = time.perf_counter() + TURN
            while (start := time.perf_counter()) < end:
                call()
                best[place] = min(best[place], time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
