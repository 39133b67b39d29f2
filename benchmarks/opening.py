"""Seconds and memory to open a dataset of many samples, from disk and from an S3 server.

The shards are made up: manifest and index are those of real ones, the tars do not exist. Each
dataset is opened in a process of its own, on one core, and one sample is located.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from windows import counting_server, upload

from ucn.preprocessing.shards.format import (
    FinishedShard,
    IndexEntry,
    ShardEntry,
    digest,
    shard_name,
)
from ucn.preprocessing.shards.write import write_manifest
from ucn.storage.stores import open_store

_MEMBERS = {"attributes.npz": 60_000, "image0.png": 300_000, "image1.png": 300_000}
_MEMBERS |= {"json": 1_500, "matches.npy": 80_128}
_OPEN = """
import json, os, sys, time
from pathlib import Path
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from ucn.preprocessing.shards.read import ShardDataset
start = time.perf_counter()
dataset = ShardDataset(sys.argv[1])
seconds = time.perf_counter() - start
dataset.locate(len(dataset) // 2)
# Unlike ru_maxrss, this does not include the parent's memory.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps([len(dataset), seconds, int(status["VmHWM"].split()[0]) * 1024 / 1e9]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--per-shard", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="keep the datasets here")
    options = parser.parse_args()
    print("| samples | shards | index, MB | manifest, MB | from | s | peak, GB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        for samples in options.samples:
            folder = (options.folder or Path(temporary)) / str(samples)
            if not (folder / "manifest.json").exists():
                folder.mkdir(parents=True, exist_ok=True)
                make(folder, samples, options.per_shard)
            report(folder, samples // options.per_shard, "disk", str(folder))
            from_s3(folder, samples // options.per_shard)


def make(folder: Path, samples: int, per_shard: int) -> None:
    """Write manifest and index of shards that do not exist."""
    write_manifest(open_store(folder), made_up(samples, per_shard), {"split": "train"})


def made_up(samples: int, per_shard: int) -> Iterator[FinishedShard]:
    """Shards with the keys and sizes of KITTI's."""
    size = sum(_MEMBERS.values()) + 4096
    for number, start in enumerate(range(0, samples, per_shard)):
        count = min(per_shard, samples - start)
        index = [entry(start + row, row * size) for row in range(count)]
        name = shard_name("train", number)
        shard = ShardEntry(
            name=name,
            samples=count,
            matches=5000 * count,
            bytes=count * size,
            sha256=digest(name),
            sidecar_sha256=digest([name]),
            sidecar_bytes=20_000,
            fingerprint=digest([number]),
        )
        yield FinishedShard.model_construct(entry=shard, configuration="c", index=index, skipped=[])


def entry(sample: int, start: int) -> IndexEntry:
    drive, frame = divmod(sample, 1000)
    sequence = f"2011_09_26_drive_{drive:05d}-image_02"
    members = {}
    for suffix, size in _MEMBERS.items():
        # Sizes of real members differ from sample to sample.
        members[suffix] = (start + 512, size - (sample * 7919) % (size // 3))
        start += 512 + size
    return IndexEntry.model_construct(
        key=f"{sequence}-{frame:010d}-{frame + 1:010d}",
        sequence=sequence,
        matches=5000 + sample % 977,
        members=members,
    )


def report(folder: Path, shards: int, place: str, uri: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, uri], capture_output=True, text=True, check=True
    )
    samples, seconds, peak = json.loads(done.stdout)
    megabytes = [
        (folder / name).stat().st_size / 1e6 for name in ("index.parquet", "manifest.json")
    ]
    print(
        f"| {samples:,} | {shards:,} | {megabytes[0]:.0f} | {megabytes[1]:.0f} | {place} "
        f"| {seconds:.2f} | {peak:.2f} |",
        flush=True,
    )


def from_s3(folder: Path, shards: int) -> None:
    """The same from a server on this machine, which runs in a process of its own."""
    with counting_server():
        upload(folder)
        report(folder, shards, "S3", "s3://bench/shards")


if __name__ == "__main__":
    main()
