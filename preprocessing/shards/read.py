"""Random access to a dataset of shards through the sidecars' offsets."""

import hashlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2

from preprocessing.errors import UserError
from preprocessing.sample import Sample
from preprocessing.shards.encode import decode_sample
from preprocessing.shards.format import (
    MANIFEST,
    IndexEntry,
    Manifest,
    parse_manifest,
    read_manifest_bytes,
    read_sidecar,
    sidecar_name,
)
from preprocessing.stores.base import Store
from preprocessing.stores.open import open_store

# Sidecars read at once: over a network it is their number that takes the time.
_READERS = 16
# What decoding damaged bytes raises.
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, cv2.error)


class ShardDataset:
    """The samples of a dataset by number, in the order of the plan.

    Opening reads the manifest and the sidecars; a sample is one read of its tar. Picklable and
    safe to use from several threads and processes.

    Args:
        uri: folder or URI of the shards.

    Attributes:
        uri: where the shards lie, absolute.
        manifest: as published.
        digest: sha256 of ``manifest.json``: names the dataset's exact content.
        keys: keys of all samples.

    Raises:
        UserError: no finished dataset there, or the sidecars disagree with the manifest.
    """

    def __init__(self, uri: Path | str) -> None:
        self._store = open_store(uri)
        self.uri = self._store.uri
        data = read_manifest_bytes(self._store)
        self.manifest: Manifest = parse_manifest(self._store, data)
        self.digest: str = hashlib.sha256(data).hexdigest()
        with ThreadPoolExecutor(_READERS) as pool:
            names = [shard.name for shard in self.manifest.shards]
            sidecars = list(pool.map(lambda name: read_sidecar(self._store, name), names))
        self._entries: list[tuple[str, IndexEntry]] = []
        for shard, sidecar in zip(self.manifest.shards, sidecars, strict=True):
            if (sidecar.sha256, sidecar.samples) != (shard.sha256, shard.samples):
                raise UserError(
                    f"{self.uri}/{sidecar_name(shard.name)}: disagrees with {MANIFEST}; "
                    "run `ucn verify`, then `ucn preprocess` again"
                )
            self._entries.extend((shard.name, entry) for entry in sidecar.index)
        self.keys: list[str] = [entry.key for _, entry in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        """Read and decode sample ``index``.

        Raises:
            UserError: its tar is missing, cut or damaged.
        """
        tar, entry = self._entries[index]
        return read_sample(self._store, tar, entry)

    def index_of(self, key: str) -> int:
        """Number of the sample with this key.

        Raises:
            UserError: there is none.
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
        """Name of the sequence of sample ``index``, without reading it."""
        return self._entries[index][1].sequence

    def matches_of(self, index: int) -> int:
        """Number of correspondences of sample ``index``, without reading it."""
        return self._entries[index][1].matches


def read_sample(store: Store, tar: str, entry: IndexEntry) -> Sample:
    """Read one sample from its tar.

    Raises:
        UserError: the tar is missing, cut or damaged.
    """
    start = min(offset for offset, _ in entry.members.values())
    end = max(offset + size for offset, size in entry.members.values())
    try:
        data = store.read(tar, start, end - start)
        members = {
            suffix: data[offset - start : offset - start + size]
            for suffix, (offset, size) in entry.members.items()
        }
        return decode_sample(entry.key, members)
    except _DAMAGE as error:
        raise UserError(
            f"{store.uri}/{tar}: sample {entry.key} cannot be read ({error}); "
            "run `ucn verify`, then `ucn preprocess` again"
        ) from error
