"""Random access to the samples of a dataset, by the byte offsets in the sidecars."""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
from ucn.storage.stores import LocalStore, Store, open_store

# Sidecars read concurrently. Over a network the number of requests limits the speed.
READERS = 16


@dataclass(frozen=True)
class _Index:
    """Index of one tar with S samples and M members; about 250 bytes per sample.

    Attributes:
        name: name of the tar.
        keys: keys of the samples.
        sequences: sequences of the samples; equal names share one object.
        suffixes: member suffixes of each sample; equal tuples share one object.
        matches_S: number of correspondences of each sample.
        spans_M2: byte offset and size of each member, ordered by sample.
        first_S: first row of each sample in ``spans_M2``.
    """

    name: str
    keys: list[str]
    sequences: list[str]
    suffixes: list[tuple[str, ...]]
    matches_S: NDArray[np.int64]
    spans_M2: NDArray[np.int64]
    first_S: NDArray[np.int64]

    def entry(self, number: int) -> IndexEntry:
        """Index entry of sample ``number`` of this tar."""
        suffixes, first = self.suffixes[number], self.first_S[number]
        spans = self.spans_M2[first : first + len(suffixes)].tolist()
        return IndexEntry.model_construct(
            key=self.keys[number],
            sequence=self.sequences[number],
            matches=int(self.matches_S[number]),
            members={suffix: tuple(span) for suffix, span in zip(suffixes, spans, strict=True)},
        )


class ShardDataset:
    """The samples of a dataset by index, in the order of the plan.

    Opening a dataset reads the manifest and the sidecars. Each sample is one read of its tar.
    Picklable, and safe to use from several threads and processes.

    Args:
        uri: folder or URI of the shards.
        cache: local cache for tars in an object store; unused for local folders.

    Attributes:
        uri: absolute path or URI of the shards.
        manifest: the published manifest.
        digest: SHA-256 of ``manifest.json``; identifies the dataset's exact content.
        keys: keys of all samples.

    Raises:
        UserError: the dataset is missing or incomplete, or the sidecars contradict the manifest.
    """

    def __init__(self, uri: Path | str, cache: LocalCache | None = None) -> None:
        self._store = open_store(uri)
        self.uri = self._store.uri
        data = read_manifest_bytes(self._store)
        self.manifest: Manifest = parse_manifest(self._store, data)
        self.digest: str = hashlib.sha256(data).hexdigest()
        with ThreadPoolExecutor(READERS) as pool:
            self._tars = list(
                pool.map(lambda shard: _read_index(self._store, shard), self.manifest.shards)
            )
        # Tar k holds samples _ends[k - 1] to _ends[k] (exclusive).
        self._ends = np.cumsum([len(tar.keys) for tar in self._tars], dtype=np.int64)
        self.keys: list[str] = [key for tar in self._tars for key in tar.keys]
        self._cached: CachedTars | None = None
        if cache is not None and not isinstance(self._store, LocalStore):
            self._cached = CachedTars(self._store, self.manifest.shards, cache)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """Reads and decodes sample ``index``.

        Raises:
            UserError: its tar is missing, truncated or damaged.
        """
        tar, number = self._find(index)
        if self._cached is None:
            return read_sample(self._store, tar.name, tar.entry(number))
        try:
            return read_sample(self._cached, tar.name, tar.entry(number))
        except UserError:
            if not self._cached.distrust(tar.name):
                raise
            return read_sample(self._store, tar.name, tar.entry(number))

    def index_of(self, key: str) -> int:
        """Index of the sample with this key.

        Raises:
            UserError: the key does not exist.
        """
        try:
            return self.keys.index(key)
        except ValueError:
            raise UserError(
                f"{self.uri}: no sample {key!r}; its keys look like {self.keys[0]!r}"
                if self.keys
                else f"{self.uri}: holds no samples; see `skipped` in its {MANIFEST}"
            ) from None

    def sequence_of(self, index: int) -> str:
        """Name of the sequence of sample ``index``, without reading the sample."""
        tar, number = self._find(index)
        return tar.sequences[number]

    def matches_of(self, index: int) -> int:
        """Number of correspondences of sample ``index``, without reading the sample."""
        tar, number = self._find(index)
        return int(tar.matches_S[number])

    def _find(self, index: int) -> tuple[_Index, int]:
        """The tar of a sample, and the sample's index in it."""
        index = range(len(self))[index]
        which = int(np.searchsorted(self._ends, index, side="right"))
        tar = self._tars[which]
        return tar, index - int(self._ends[which]) + len(tar.keys)


def _read_index(store: Store, shard: ShardEntry) -> _Index:
    data = read_sidecar_bytes(store, shard.name)
    if hashlib.sha256(data).hexdigest() != shard.sidecar_sha256:
        raise UserError(
            f"{store.uri}/{sidecar_name(shard.name)}: disagrees with {MANIFEST}; run `ucn verify`, "
            "delete what it names, and run `ucn preprocess` again"
        )
    entries = parse_sidecar(store, shard.name, data).index
    spans = [span for entry in entries for span in entry.members.values()]
    spans_M2 = np.array(spans, np.int64).reshape(-1, 2)
    if (spans_M2.sum(axis=1) > shard.bytes).any():
        raise UserError(
            f"{store.uri}/{sidecar_name(shard.name)}: members beyond the end of {shard.name}; run "
            "`ucn verify`, delete what it names, and run `ucn preprocess` again"
        )
    counts = [len(entry.members) for entry in entries]
    return _Index(
        name=shard.name,
        keys=[entry.key for entry in entries],
        sequences=[sys.intern(entry.sequence) for entry in entries],
        suffixes=_shared([tuple(entry.members) for entry in entries]),
        matches_S=np.array([entry.matches for entry in entries], np.int64),
        spans_M2=spans_M2,
        first_S=np.cumsum([0, *counts], dtype=np.int64)[:-1],
    )


def _shared(suffixes: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The same tuples, with equal ones sharing one object."""
    seen: dict[tuple[str, ...], tuple[str, ...]] = {}
    return [seen.setdefault(tuple(map(sys.intern, one)), one) for one in suffixes]


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
