"""Exact hard-negative mining beside the matrix product alone that it cannot do without.

Side by side in one run; prints a table row with the ratio. Sizes are the paper's: 3,000 queries
against the 22,000 cells of a KITTI image at stride 4, 64-D.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from training.mining.exclusion import Grid
from training.mining.hard import mine_hard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=3000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    grid = Grid(height=80, width=275, stride=4, offset=1.5)
    count = grid.height * grid.width
    queries_ND = unit_rows(options.queries, options.dimension, generator)
    cells_MD = unit_rows(count, options.dimension, generator)
    points_N2 = torch.rand(options.queries, 2, generator=generator) * torch.tensor([1100.0, 320.0])

    product = rounds(lambda: queries_ND @ cells_MD.T, options.rounds)
    product_argmax = rounds(lambda: (queries_ND @ cells_MD.T).max(dim=1), options.rounds)
    mined = rounds(lambda: mine_hard(queries_ND, cells_MD, points_N2, grid, 16.0), options.rounds)
    print(f"{options.queries} x {count} x {options.dimension}, {torch.get_num_threads()} threads")
    for name, times in (
        ("matrix product", product),
        ("product + argmax, unmasked, whole matrix", product_argmax),
        ("mine_hard: masked, exact, chunked", mined),
    ):
        ratios = [a / b for a, b in zip(times, product, strict=True)]
        print(
            f"| {name} | {1e3 * statistics.median(times):.0f} ms | "
            f"{statistics.median(ratios):.2f} |"
        )


def rounds(function: Callable[[], object], count: int) -> list[float]:
    """Seconds of each call, after one that is not counted."""
    function()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


def unit_rows(count: int, dimension: int, generator: torch.Generator) -> torch.Tensor:
    """Random unit vectors [count, dimension]."""
    rows = torch.randn(count, dimension, generator=generator)
    return torch.nn.functional.normalize(rows, dim=1)


if __name__ == "__main__":
    main()
