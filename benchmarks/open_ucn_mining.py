"""Hard-negative search beside Open-UCN's own (``lib/eval.py``, unmodified, from a checkout of it).

Its settings: 1,024 positives, 40,000 random candidate positions of a 640x480 image at stride 1,
64-D features, 50 positives at a time, 4 px radius. One direction of one image pair, side by side in
one run, in turns, on the same smooth features, noise of some 8 pixels' grain, with fine noise added
in image 1. Its search takes the nearest candidate of all, which training then drops if it lies
within the radius; ours takes the nearest beyond it.
"""

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ucn.matching.exclusion import Negatives
from ucn.matching.features import Grid
from ucn.matching.search import search
from ucn.training.mining.hard import mine_hard

GRID = Grid(height=480, width=640, stride=1, offset=0)
DIMENSION, POSITIVES, CANDIDATES, AT_ONCE, RADIUS = 64, 1024, 40_000, 50, 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open-ucn", type=Path, required=True, help="a checkout of Open-UCN")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sys.path.insert(0, str(options.open_ucn))
    find_nn = importlib.import_module("lib.eval").find_nn_gpu

    generator = torch.Generator().manual_seed(0)
    queries_ND, cells_MD, points_N2 = smooth_pair(generator)
    candidates_V = torch.randperm(len(cells_MD), generator=generator)[:CANDIDATES]
    valid_M = torch.zeros(len(cells_MD), dtype=torch.bool)
    valid_M[candidates_V] = True
    # Open-UCN keeps features as [D, N].
    queries_DN, candidates_DV = queries_ND.T.contiguous(), cells_MD[candidates_V].T.contiguous()

    def theirs() -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = find_nn(
            queries_DN, candidates_DV, nn_max_n=AT_ONCE, return_distance=True, transposed=True
        )
        return found

    def ours() -> Negatives:
        return mine_hard(queries_ND, cells_MD, points_N2, GRID, RADIUS, valid_M=valid_M)

    def ours_everywhere() -> Negatives:
        return mine_hard(queries_ND, cells_MD, points_N2, GRID, RADIUS)

    functions = {
        "Open-UCN": theirs,
        f"mine_hard, the same {CANDIDATES:,} candidates": ours,
        f"mine_hard, all {len(cells_MD):,} positions": ours_everywhere,
    }
    print(f"{torch.get_num_threads()} threads\n")
    print_times(functions, options.rounds)
    place_N, squared_N1 = theirs()
    print_agreement(
        queries_ND, cells_MD, points_N2, candidates_V, place_N, squared_N1[:, 0], ours()
    )


def smooth_pair(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of image 0 [N, D], cells of image 1 [M, D], and the queries' places there [N, 2]."""
    coarse = torch.randn(1, DIMENSION, GRID.height // 8, GRID.width // 8, generator=generator)
    field_DHW = F.interpolate(coarse, (GRID.height, GRID.width), mode="bicubic")[0]
    noise_DHW = 0.2 * torch.randn(field_DHW.shape, generator=generator)
    cells_MD = F.normalize((field_DHW + noise_DHW).flatten(1).T, dim=1).contiguous()
    x_N = torch.randint(0, GRID.width, (POSITIVES,), generator=generator)
    y_N = torch.randint(0, GRID.height, (POSITIVES,), generator=generator)
    queries_ND = F.normalize(field_DHW[:, y_N, x_N].T, dim=1).contiguous()
    return queries_ND, cells_MD, torch.stack([x_N, y_N], dim=1).float()


def print_times(functions: dict[str, Callable[[], object]], rounds: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if number > 0:
                times[name].append(time.perf_counter() - start)
    base = times["Open-UCN"]
    print("| search | time | times as fast |\n| --- | --- | --- |")
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(base, seconds, strict=True)]
        print(
            f"| {name} | {1e3 * statistics.median(seconds):.0f} ms | "
            f"{statistics.median(ratios):.0f} |"
        )


def print_agreement(
    queries_ND: Tensor,
    cells_MD: Tensor,
    points_N2: Tensor,
    candidates_V: Tensor,
    place_N: Tensor,
    squared_N: Tensor,
    ours: Negatives,
) -> None:
    """Compare distances: to the nearest candidate of all, and to the negatives that both have."""
    theirs_N = candidates_V[place_N]
    nearest_N = search(queries_ND, cells_MD[candidates_V], memory_mib=64).index_N
    of_all = difference(queries_ND, cells_MD[candidates_V[nearest_N]], squared_N)
    place_N2 = torch.stack([theirs_N % GRID.width, theirs_N // GRID.width], dim=1)
    kept_N = (place_N2 - points_N2).square().sum(dim=1) > RADIUS**2
    both_N = kept_N & ours.valid_N
    of_negatives = difference(queries_ND[both_N], cells_MD[ours.index_N[both_N]], squared_N[both_N])
    print(
        f"\nThe distances to the nearest candidate of all differ by at most {of_all:.1e}. Of "
        f"{POSITIVES:,} positives Open-UCN leaves {int(kept_N.sum()):,} with a negative, ours "
        f"{int(ours.valid_N.sum()):,}; where both have one, its distances differ by at most "
        f"{of_negatives:.1e}."
    )


def difference(queries_ND: Tensor, found_ND: Tensor, squared_N: Tensor) -> float:
    """Largest difference of the distances found from those whose squares are given."""
    apart_N = (queries_ND - found_ND).norm(dim=1) - squared_N.sqrt()
    return float(apart_N.abs().max()) if len(apart_N) else 0.0


if __name__ == "__main__":
    main()
