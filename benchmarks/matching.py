"""Dense matching of a whole image against a whole image beside its matrix product alone.

Every cell of a KITTI image at stride 4 is matched to the nearest of all cells of another. The base
is the same product into one buffer, without a search in it, in chunks of two sizes; the faster one
counts. The times come side by side in one run, in turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ucn.matching.search import search

HEIGHT, WIDTH = 94, 311


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--memory-mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    features0_ND, features1_MD = (
        torch.nn.functional.normalize(
            torch.randn(HEIGHT * WIDTH, options.dimension, generator=generator), dim=1
        ).to(options.device)
        for _ in range(2)
    )
    methods: dict[str, Callable[[], object]] = {
        f"matrix product, {size} MiB at once": partial(product, features0_ND, features1_MD, size)
        for size in (8, options.memory_mib)
    } | {
        "search": lambda: search(features0_ND, features1_MD, memory_mib=options.memory_mib),
    }
    print(
        f"{len(features0_ND)} x {len(features1_MD)} x {options.dimension}, {options.device}, "
        f"{torch.get_num_threads()} threads\n"
    )
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(options.rounds):
        for name, run in methods.items():
            times[name].append(timed(run, options.device))
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = min(value for name, value in medians.items() if name.startswith("matrix"))
    print("| | seconds | of the product |\n|:--|--:|--:|")
    for name, value in medians.items():
        print(f"| {name} | {value:.3f} | {value / base:.2f} |")


def product(queries_ND: Tensor, cells_MD: Tensor, memory_mib: int) -> None:
    """The similarities alone, in large chunks."""
    num_cells = len(cells_MD)
    rows = max(1, min(len(queries_ND), memory_mib * 2**20 // (4 * num_cells)))
    buffer = queries_ND.new_empty(rows, num_cells)
    for start in range(0, len(queries_ND), rows):
        chunk = queries_ND[start : start + rows]
        torch.mm(chunk, cells_MD.T, out=buffer[: len(chunk)])


def timed(run: Callable[[], object], device: str) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
