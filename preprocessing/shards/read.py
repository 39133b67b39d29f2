"""Random access to the samples of a dataset, by the byte offsets of its index."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ucn.errors import UserError
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.cache import CachedTars
from ucn.preprocessing.shards.cache_folder import LocalCache
from ucn.preprocessing.shards.encode import decode_sample
from ucn.preprocessing.shards.format import (
    MANIFEST,
    IndexEntry,
    Manifest,
    ShardEntry,
    parse_manifest,
    parse_sidecar,
    read_manifest_bytes,
    read_sidecar_bytes,
    sidecar_name,
)
from ucn.preprocessing.shards.index import (
    SampleIndex,
    SampleLocation,
    index_of_sidecars,
    read_index,
)
from ucn.storage.stores import LocalStore, Store, open_store

Item = TypeVar("Item")
Result = TypeVar("Result")

# Files read concurrently. Over a network the number of requests limits the speed.
_READERS = 16
_BATCH = 64 * _READERS


@dataclass(frozen=True)
class SampleReader:
    """Reads samples by location. Picklable; it holds no index.

    Attributes:
        store: store of the tars.
        cached: local copies of the tars, where there are any.
    """

    store: Store
    cached: CachedTars | None = None

    def read(self, location: SampleLocation) -> Sample:
        """Reads and decodes a sample.

        Raises:
            UserError: its tar is missing, truncated or damaged.
        """
        if self.cached is None:
            return read_sample(self.store, *location)
        try:
            return read_sample(self.cached, *location)
        except UserError:
            if not self.cached.distrust(location.tar):
                raise
            return read_sample(self.store, *location)


class ShardDataset:
    """The samples of a dataset by index, in the order of the plan.

    Opening a dataset reads the manifest and ``index.parquet``; without the latter, the sidecars.
    Each sample is one read of its tar. Picklable, and safe to use from several threads and
    processes.

    Args:
        uri: folder or URI of the shards.
        cache: local cache for tars in an object store; unused for local folders.
        gave_up: as in `CachedTars`.

    Attributes:
        uri: absolute path or URI of the shards.
        manifest: the published manifest.
        digest: SHA-256 of ``manifest.json``; identifies the dataset's exact content.
        reader: reads samples by their location, without the index.

    Raises:
        UserError: the dataset is missing or incomplete, or its index contradicts the manifest.
    """

    def __init__(
        self, uri: Path | str, cache: LocalCache | None = None, gave_up: Event | None = None
    ) -> None:
        store = open_store(uri)
        self.uri = store.uri
        data = read_manifest_bytes(store)
        self.manifest: Manifest = parse_manifest(store, data)
        self.digest: str = hashlib.sha256(data).hexdigest()
        self._index = _open_index(store, self.manifest.shards)
        cached = None
        if cache is not None and not isinstance(store, LocalStore):
            cached = CachedTars(store, self.manifest.shards, cache, gave_up)
        self.reader = SampleReader(store, cached)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Sample:
        """Reads and decodes sample ``index``.

        Raises:
            UserError: its tar is missing, truncated or damaged.
        """
        return self.reader.read(self.locate(index))

    @property
    def keys(self) -> list[str]:
        """Keys of all samples."""
        keys: list[str] = self._index.keys.to_pylist()
        return keys

    @property
    def shard_ends(self) -> NDArray[np.int64]:
        """int64 [T]: number of samples up to the end of each of ``manifest.shards``."""
        return self._index.ends_T

    def locate(self, index: int) -> SampleLocation:
        """Tar and members of sample ``index``, without reading the sample.

        Raises:
            UserError: the index holds a name that is not one of a sample.
        """
        try:
            return self._index.locate(range(len(self))[index])
        except ValidationError as error:
            raise UserError(
                f"{self.uri}: sample {index} has an invalid name ({str(error).splitlines()[0]}); "
                "make the shards again"
            ) from error

    def key_of(self, index: int) -> str:
        """Key of sample ``index``."""
        return self.locate(index).entry.key

    def index_of(self, key: str) -> int:
        """Index of the sample with this key.

        Raises:
            UserError: the key does not exist.
        """
        found = self._index.find(key)
        if found is None:
            raise UserError(
                f"{self.uri}: no sample {key!r}; its keys look like {self.key_of(0)!r}"
                if len(self)
                else f"{self.uri}: holds no samples; see `skipped` in its {MANIFEST}"
            )
        return found

    def sequence_of(self, index: int) -> str:
        """Name of the sequence of sample ``index``, without reading the sample."""
        sequence: str = self._index.sequences[range(len(self))[index]].as_py()
        return sequence

    def matches_of(self, index: int) -> int:
        """Number of correspondences of sample ``index``, without reading the sample."""
        return int(self._index.matches_S[index])


def _open_index(store: Store, shards: Sequence[ShardEntry]) -> SampleIndex:
    try:
        return read_index(store, shards)
    except FileNotFoundError:
        pass
    entries = read_concurrently(lambda shard: _sidecar_entries(store, shard), shards)
    return index_of_sidecars(shards, entries)


def read_concurrently(read: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Applies a function that reads to each item, in threads; yields the results in order.

    Only a part of the results is in memory at a time.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(items), _BATCH):
            yield from pool.map(read, items[start : start + _BATCH])


def _sidecar_entries(store: Store, shard: ShardEntry) -> list[IndexEntry]:
    data = read_sidecar_bytes(store, shard.name)
    if hashlib.sha256(data).hexdigest() != shard.sidecar_sha256:
        raise UserError(
            f"{store.uri}/{sidecar_name(shard.name)}: disagrees with {MANIFEST}; run `ucn verify`, "
            "delete what it names, and run `ucn preprocess` again"
        )
    entries = parse_sidecar(store, shard.name, data).index
    ends = [offset + size for entry in entries for offset, size in entry.members.values()]
    if max(ends, default=0) > shard.bytes:
        raise UserError(
            f"{store.uri}/{sidecar_name(shard.name)}: members beyond the end of {shard.name}; run "
            "`ucn verify`, delete what it names, and run `ucn preprocess` again"
        )
    return entries


def read_sample(store: Store | CachedTars, tar: str, entry: IndexEntry) -> Sample:
    """Reads one sample with a single read of its tar.

    Raises:
        UserError: the tar is missing, truncated or damaged.
    """
    try:
        start = min(offset for offset, _ in entry.members.values())
        end = max(offset + size for offset, size in entry.members.values())
        data = store.read(tar, start, end - start)
        members = {
            suffix: data[offset - start : offset - start + size]
            for suffix, (offset, size) in entry.members.items()
        }
        return decode_sample(entry.key, members)
    except UserError:
        raise
    except Exception as error:
        # zip, NumPy, JSON and OpenCV raise exceptions of many kinds for damaged data.
        raise UserError(
            f"{store.uri}/{tar}: sample {entry.key} cannot be read ({' '.join(str(error).split())})"
            "; run `ucn verify`, delete what it names, and run `ucn preprocess` again"
        ) from error
