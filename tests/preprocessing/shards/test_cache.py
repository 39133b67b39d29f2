"""Local copies of tars that lie in an object store: same samples, fewer requests, bounded room."""

import errno
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import boto3
import numpy as np
import pytest

from ucn.errors import UserError
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards import cache_folder
from ucn.preprocessing.shards.cache_folder import LocalCache, default_folder, make_room
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.write import write_manifest, write_shard
from ucn.storage.s3 import S3Store
from ucn.storage.stores import open_store, write_bytes

Reads = Counter[tuple[str, int]]
SHARDS, SAMPLES = 3, 4
LARGE = 1 << 30


@pytest.fixture
def bucket(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in {
        "AWS_ENDPOINT_URL": moto_server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="cached")
    yield "s3://cached"
    for entry in client.list_objects_v2(Bucket="cached").get("Contents", []):
        client.delete_object(Bucket="cached", Key=entry["Key"])
    client.delete_bucket(Bucket="cached")


@pytest.fixture
def write(bucket: str, make_sample: Callable[..., Sample]) -> Callable[[str, int], str]:
    """Write a dataset of three shards into the bucket, of samples from a number on."""

    def write_dataset(name: str, first: int = 0) -> str:
        uri = f"{bucket}/{name}"
        store = open_store(uri)
        shards = [
            write_shard(
                store,
                f"train-{number:06d}.tar",
                (make_sample(first + SAMPLES * number + place) for place in range(SAMPLES)),
                "grey-png",
                "configuration",
                f"fingerprint-{number}",
            )
            for number in range(SHARDS)
        ]
        write_manifest(store, shards, {})
        return uri

    return write_dataset


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """How often each range of the tars is asked for."""
    counts: Reads = Counter()
    read = S3Store.read

    def counted(self: S3Store, name: str, start: int = 0, size: int | None = None) -> bytes:
        if name.endswith(".tar"):
            counts[name, start] += 1
        return read(self, name, start, size)

    download = S3Store.download

    def counted_download(self: S3Store, name: str, file: BinaryIO) -> None:
        counts[name, 0] += 1
        download(self, name, file)

    monkeypatch.setattr(S3Store, "read", counted)
    monkeypatch.setattr(S3Store, "download", counted_download)
    return counts


def copies(cache: LocalCache) -> list[Path]:
    return sorted(cache.folder.glob("*.tar")) if cache.folder.exists() else []


def read_until(dataset: ShardDataset, done: Callable[[], bool]) -> None:
    """Read samples, as training does, until the copies in the background are there."""
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        for index in range(0, len(dataset), SAMPLES):
            dataset[index]
        time.sleep(0.01)


def settle() -> None:
    """Wait for the copies that are under way."""
    for thread in threading.enumerate():
        if thread.name == "shard-cache":
            thread.join(20)


def own_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("ucn")]


def same(sample: Sample, other: Sample) -> bool:
    return (
        sample.key == other.key
        and np.array_equal(sample.image0, other.image0)
        and np.array_equal(sample.image1, other.image1)
        and np.array_equal(sample.matches_N4, other.matches_N4)
        and sample.metadata == other.metadata
    )


def test_copies_give_the_same_samples_without_requests(
    write: Callable[..., str], reads: Reads, tmp_path: Path
) -> None:
    uri, cache = write("a"), LocalCache(LARGE, tmp_path / "cache")
    straight = list(ShardDataset(uri))
    reads.clear()
    dataset = ShardDataset(uri, cache)
    read_until(dataset, lambda: len(copies(cache)) == SHARDS)
    settle()
    # Beside the first read of a sample there was one of each whole tar, in one request.
    assert all(reads[f"train-{number:06d}.tar", 0] == 1 for number in range(SHARDS))
    assert {path.stem for path in copies(cache)} == {s.sha256 for s in dataset.manifest.shards}
    reads.clear()
    for again in (dataset, pickle.loads(pickle.dumps(dataset)), ShardDataset(uri, cache)):
        order = np.random.default_rng(len(again)).permutation(len(again)).tolist()
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(again.__getitem__, order))
        assert all(same(straight[n], one) for n, one in zip(order, found, strict=True))
    assert not reads
    assert [path.name for path in cache.folder.iterdir() if path.name[:4] == ".tmp"] == []


def test_equal_content_is_shared_and_changed_content_is_not_taken(
    write: Callable[..., str], reads: Reads, tmp_path: Path
) -> None:
    cache = LocalCache(LARGE, tmp_path / "cache")
    first = ShardDataset(write("a"), cache)
    read_until(first, lambda: len(copies(cache)) == SHARDS)
    reads.clear()
    list(ShardDataset(write("elsewhere"), cache))
    assert not reads
    changed = ShardDataset(write("a", 100), cache)
    assert changed[0].key == "seq-0100"
    assert reads


def test_the_bound_holds_and_the_least_recently_used_makes_room(
    write: Callable[..., str], tmp_path: Path
) -> None:
    uri_a, uri_b = write("a"), write("b", 500)
    sizes = [s.bytes for uri in (uri_a, uri_b) for s in ShardDataset(uri).manifest.shards]
    # Three of them fit, of whatever dataset.
    cache = LocalCache(3 * max(sizes), tmp_path / "cache")
    first = ShardDataset(uri_a, cache)
    read_until(first, lambda: len(copies(cache)) == SHARDS)
    settle()
    by_age = [cache.path(shard) for shard in first.manifest.shards]
    for age, path in zip((9000, 1, 5000), by_age, strict=True):
        os.utime(path, (time.time() - age,) * 2)
    second = ShardDataset(uri_b, cache)
    read_until(second, lambda: not by_age[0].exists() and not by_age[2].exists())
    for _ in range(3):
        list(second)
        settle()
    # What was used just now stays; the rest of the second dataset has found no room.
    assert by_age[1].exists()
    assert len(copies(cache)) == 3
    assert sum(path.stat().st_size for path in copies(cache)) <= cache.limit


def test_a_dataset_larger_than_the_cache_is_not_copied_again_and_again(
    write: Callable[..., str], reads: Reads, tmp_path: Path
) -> None:
    uri = write("a")
    straight = list(ShardDataset(uri))
    limit = 2 * max(shard.bytes for shard in ShardDataset(uri).manifest.shards)
    cache = LocalCache(limit, tmp_path / "cache")
    dataset = ShardDataset(uri, cache)
    read_until(dataset, lambda: len(copies(cache)) == 2)
    settle()
    kept = copies(cache)
    for path in kept:
        os.utime(path, (0, 0))
    reads.clear()
    assert all(same(a, b) for a, b in zip(straight, dataset, strict=True))
    settle()
    assert copies(cache) == kept
    assert len({name for name, _ in reads}) == 1
    assert sum(reads.values()) == SAMPLES


@pytest.mark.parametrize("damage", ["flipped", "cut", "in use"])
def test_a_damaged_copy_is_healed(
    write: Callable[..., str], reads: Reads, tmp_path: Path, damage: str
) -> None:
    uri, cache = write("a"), LocalCache(LARGE, tmp_path / "cache")
    straight = list(ShardDataset(uri))
    dataset = ShardDataset(uri, cache)
    read_until(dataset, lambda: len(copies(cache)) == SHARDS)
    settle()
    path = cache.path(dataset.manifest.shards[1])
    whole = path.read_bytes()
    if damage == "in use":
        # Noticed by what decodes: its hash was looked at before.
        list(dataset)
        path.write_bytes(bytes(len(whole)))
    else:
        middle = len(whole) // 2
        bad = bytes([whole[middle] ^ 1])
        path.write_bytes(
            whole[:middle] + (bad + whole[middle + 1 :] if damage == "flipped" else b"")
        )
        dataset = ShardDataset(uri, cache)
    reads.clear()
    assert all(same(a, b) for a, b in zip(straight, dataset, strict=True))
    assert {name for name, _ in reads} == {"train-000001.tar"}
    read_until(dataset, path.exists)
    assert path.read_bytes() == whole


def test_a_tar_that_disagrees_with_the_manifest_is_never_kept(
    write: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri, cache = write("a"), LocalCache(LARGE, tmp_path / "cache")
    store = open_store(uri)
    data = bytearray(store.read("train-000002.tar"))
    data[-1] ^= 1
    write_bytes(store, "train-000002.tar", bytes(data))
    dataset = ShardDataset(uri, cache)
    for _ in range(4):
        list(dataset)
        settle()
    assert cache.path(dataset.manifest.shards[2]) not in copies(cache)
    assert len(copies(cache)) == 2
    (record,) = own_records(caplog)
    assert "train-000002.tar: disagrees with manifest.json" in record.getMessage()


@pytest.mark.parametrize("fault", ["full", "unwritable", "no folder"])
def test_without_a_usable_folder_one_warning_and_the_store(
    write: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    uri, cache = write("a"), LocalCache(LARGE, tmp_path / "cache")

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC if fault == "full" else errno.EROFS, "read-only file system")

    if fault == "no folder":
        cache.folder.write_text("a file is in the way")
    else:
        monkeypatch.setattr(cache_folder.os, "fsync" if fault == "full" else "replace", fail)
    straight = list(ShardDataset(uri))
    with caplog.at_level(logging.WARNING):
        dataset = ShardDataset(uri, cache)
        for _ in range(3):
            assert all(same(a, b) for a, b in zip(straight, dataset, strict=True))
            settle()
    (record,) = own_records(caplog)
    expected = "the disk is full" if fault == "full" else ""
    assert expected in record.getMessage()
    assert "\n" not in record.getMessage()
    if fault != "no folder":
        assert [path.name for path in cache.folder.iterdir()] == [cache_folder.LOCK]


READER = """
import sys, time
from pathlib import Path
from ucn.preprocessing.shards.cache_folder import LocalCache
from ucn.preprocessing.shards.read import ShardDataset
cache = LocalCache(int(sys.argv[2]), Path(sys.argv[3]))
dataset = ShardDataset(sys.argv[1], cache)
end = time.monotonic() + 1.0
while time.monotonic() < end:
    keys = [sample.key for sample in dataset]
    assert sum(p.stat().st_size for p in cache.folder.glob("*.tar")) <= cache.limit
print(len(set(keys)))
"""


def test_two_processes_share_one_bounded_folder(
    write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris = [write("a"), write("b", 500)]
    sizes = [s.bytes for uri in uris for s in ShardDataset(uri).manifest.shards]
    cache = LocalCache(4 * max(sizes), tmp_path / "cache")
    cache.folder.mkdir()
    # What a writer left that was killed.
    (cache.folder / f".tmp-{'0' * 64}.tar").write_bytes(bytes(cache.limit))
    arguments = [str(cache.limit), str(cache.folder)]
    root = Path(__file__).parents[3]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", READER, uri, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        for uri in uris
    ]
    assert [p.communicate(timeout=60)[0].strip() for p in processes] == ["12"] * 2
    assert all(p.returncode == 0 for p in processes)
    assert len(copies(cache)) == 4
    for path in copies(cache):
        assert cache_folder.hashlib.sha256(path.read_bytes()).hexdigest() == path.stem


def test_a_fork_goes_on_reading(write: Callable[..., str], tmp_path: Path) -> None:
    uri, cache = write("a"), LocalCache(LARGE, tmp_path / "cache")
    dataset = ShardDataset(uri, cache)
    read_until(dataset, lambda: len(copies(cache)) == SHARDS)
    settle()
    # As if the parent were amid a copy: its threads are not there in the child.
    cached = dataset.reader.cached
    assert cached is not None
    cached._state.lock.acquire()
    copies(cache)[0].unlink()
    child = os.fork()
    if child == 0:
        try:
            read_until(dataset, lambda: len(copies(cache)) == SHARDS)
            os._exit(0)
        finally:
            os._exit(1)
    cached._state.lock.release()
    assert os.waitpid(child, 0)[1] == 0


def test_local_folders_are_never_copied(tmp_path: Path, make_sample: Callable[..., Sample]) -> None:
    store = open_store(tmp_path / "shards")
    outcomes = (make_sample(index) for index in range(2))
    shard = write_shard(store, "train-000000.tar", outcomes, "grey-png", "c", "f")
    write_manifest(store, [shard], {})
    cache = LocalCache(LARGE, tmp_path / "cache")
    assert len(list(ShardDataset(store.uri, cache))) == 2
    assert not cache.folder.exists()


@pytest.mark.usefixtures("bucket")
def test_what_is_missing_in_the_store_is_told(write: Callable[..., str], tmp_path: Path) -> None:
    uri = write("a")
    open_store(uri).delete("train-000001.tar")
    dataset = ShardDataset(uri, LocalCache(LARGE, tmp_path / "cache"))
    assert dataset[0].key == "seq-0000"
    with pytest.raises(UserError, match=r"train-000001\.tar: sample seq-0004 cannot be read"):
        dataset[SAMPLES]


def test_nothing_is_evicted_in_vain(tmp_path: Path) -> None:
    cache = LocalCache(1000, tmp_path)
    for name, size, age in (("a", 300, 9000), ("b", 300, 8000), ("c", 300, 0)):
        (tmp_path / f"{name}.tar").write_bytes(bytes(size))
        os.utime(tmp_path / f"{name}.tar", (time.time() - age,) * 2)
    assert not make_room(cache, 800)
    assert not make_room(cache, 500, {"a"})
    assert len(copies(cache)) == 3
    assert make_room(cache, 400)
    assert [path.stem for path in copies(cache)] == ["b", "c"]


def test_the_default_folder_is_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "ucn" / "shards"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert LocalCache(0).folder == Path("/home/someone/.cache/ucn/shards")
