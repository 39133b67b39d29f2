"""What whole datasets take: measured on some pairs of each, times the number of its pairs.

python benchmarks/extrapolate.py kitti-raw=ROOT sintel=ROOT yfcc=ROOT
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# One core a task, as Ray runs them; read when the libraries are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2

from ucn.errors import SkippedPair
from ucn.preprocessing.shards.write import Outcome, write_shard
from ucn.preprocessing.sources.registry import SOURCES
from ucn.storage.stores import open_store


@dataclass(frozen=True)
class Whole:
    """A whole dataset.

    Attributes:
        pairs: candidates.
        why: how they are counted.
        options: of the source when it is measured.
    """

    pairs: int
    why: str
    options: dict[str, Any] = field(default_factory=dict)


WHOLE = {
    "kitti-raw": Whole(
        3 * 47_889 - 151 * (1 + 2 + 5), "47,889 frames of 151 synced drives, gaps 1, 2 and 5"
    ),
    "sintel": Whole(2 * 1041, "1,041 training pairs, clean and final", {"passes": ("clean",)}),
    "yfcc": Whole(72 * 10_000, "64 + 4 + 4 scenes of at most 10,000 pairs"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("roots", nargs="+", metavar="SOURCE=ROOT", help=", ".join(WHOLE))
    parser.add_argument("--pairs", type=int, default=40, help="pairs to measure")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print("| dataset | pairs | ms a pair | core hours | GB | files | counted as |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for text in options.roots:
        name, _, root = text.partition("=")
        whole = WHOLE[name]
        milliseconds, size, pairs_per_shard = measure(name, root, options.pairs)
        shards = -(-whole.pairs // pairs_per_shard)
        print(
            f"| {name} | {whole.pairs:,} | {milliseconds:.0f} "
            f"| {whole.pairs * milliseconds / 3.6e6:.1f} | {whole.pairs * size / 1e9:.0f} "
            f"| {2 * shards + 1:,} | {whole.why} |"
        )


def measure(name: str, root: str, count: int) -> tuple[float, float, int]:
    """Milliseconds and bytes a pair of a source, written as one shard; and its pairs a shard."""
    with tempfile.TemporaryDirectory() as folder:
        config = SOURCES.load(name)(root=root, out=folder, **WHOLE[name].options)  # type: ignore[call-arg]
        pairs = config.open_source().pairs()[:count]
        source = config.open_source()

        def outcomes() -> Iterator[Outcome]:
            for pair in pairs:
                try:
                    yield source.load(pair)
                except SkippedPair as skipped:
                    yield source.key(pair), skipped

        start = time.perf_counter()
        write_shard(open_store(folder), "bench-000000.tar", outcomes(), config.images, "c", "f")
        seconds = time.perf_counter() - start
        size = (Path(folder) / "bench-000000.tar").stat().st_size
        return 1e3 * seconds / len(pairs), size / len(pairs), config.pairs_per_shard


if __name__ == "__main__":
    main()
