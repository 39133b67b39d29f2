"""Exact negative mining beside the matrix product alone that it cannot do without, and its memory.

The times come side by side in one run, in turns; sizes are the paper's: 3,000 queries against the
22,000 cells of a KITTI image at stride 4, 64-D. The memory is the growth of a process of its own
at its peak, for two image sizes, and for the whole product of queries and cells beside it.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ucn.matching.features import Grid
from ucn.training.mining.hard import mine_hard
from ucn.training.mining.random import mine_random

RADIUS = 16.0
SMALL = Grid(height=80, width=275, stride=4, offset=1.5)
LARGE = Grid(height=270, width=480, stride=4, offset=1.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=3000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--growth", nargs=2, metavar=("NAME", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.growth is not None:
        name, size = options.growth
        grid = {"small": SMALL, "large": LARGE}[size]
        print(peak_growth(searches(options.queries, options.dimension, grid)[name]))
        return
    print(
        f"{options.queries} x {SMALL.height * SMALL.width} x {options.dimension}, "
        f"{torch.get_num_threads()} threads\n"
    )
    print_times(searches(options.queries, options.dimension, SMALL), options.rounds)
    print_memory(options.queries, options.dimension)


def searches(num_queries: int, dimension: int, grid: Grid) -> dict[str, Callable[[], object]]:
    """What is compared, on random unit features; the first is the base."""
    generator = torch.Generator().manual_seed(0)
    queries_ND = unit_rows(num_queries, dimension, generator)
    cells_MD = unit_rows(grid.height * grid.width, dimension, generator)
    extent = torch.tensor([grid.width, grid.height]) * grid.stride
    points_N2 = torch.rand(num_queries, 2, generator=generator) * extent
    uniform_N = torch.rand(num_queries, generator=generator, dtype=torch.float64)
    arguments = queries_ND, cells_MD, points_N2, grid, RADIUS
    return {
        "matrix product": lambda: queries_ND @ cells_MD.T,
        "product + argmax, unmasked, whole matrix": lambda: (queries_ND @ cells_MD.T).max(dim=1),
        "mine_hard": lambda: mine_hard(*arguments),
        "mine_random": lambda: mine_random(*arguments, uniform_N=uniform_N),
    }


def print_times(functions: dict[str, Callable[[], object]], rounds: int) -> None:
    times = in_turns(functions, rounds)
    base = next(iter(times.values()))
    print("| what | time | ratio to the matrix product |\n| --- | --- | --- |")
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(seconds, base, strict=True)]
        print(
            f"| {name} | {1e3 * statistics.median(seconds):.0f} ms | "
            f"{statistics.median(ratios):.2f} |"
        )


def print_memory(num_queries: int, dimension: int) -> None:
    sizes = {"small": SMALL, "large": LARGE}
    columns = [f"{grid.height * grid.width:,} cells" for grid in sizes.values()]
    print(f"\n| peak extra memory | {' | '.join(columns)} |\n| --- | --- | --- |")
    for name in ("matrix product", "mine_hard", "mine_random"):
        growths = [
            subprocess.run(
                [
                    *(sys.executable, __file__, "--growth", name, size),
                    *("--queries", str(num_queries), "--dimension", str(dimension)),
                ],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            for size in sizes
        ]
        print(f"| {name} | {' | '.join(f'{float(mib):.0f} MiB' for mib in growths)} |")


def peak_growth(function: Callable[[], object]) -> float:
    """By how much a call raises this process's resident memory at its peak, MiB (Linux)."""
    # The libraries' own buffers come with the first product.
    torch.ones(512, 64) @ torch.ones(64, 512)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    before = peak_mib()
    function()
    return peak_mib() - before


def peak_mib() -> float:
    """Peak of this process's resident memory. (getrusage's is also that of its parent.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def in_turns(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, the functions one after the other, after one round not counted."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if number > 0:
                times[name].append(time.perf_counter() - start)
    return times


def unit_rows(count: int, dimension: int, generator: torch.Generator) -> torch.Tensor:
    """Random unit vectors [count, dimension]."""
    rows = torch.randn(count, dimension, generator=generator)
    return torch.nn.functional.normalize(rows, dim=1)


if __name__ == "__main__":
    main()
