"""Writes shards: a reproducible tar, then its sidecar, and finally the manifest."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ucn.errors import SkippedPair
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.encode import ImageFormat, encode_image, encode_sample
from ucn.preprocessing.shards.format import (
    INDEX,
    LISTED_SKIPPED,
    MANIFEST,
    SKIPPED,
    FinishedShard,
    IndexEntry,
    Manifest,
    ShardEntry,
    Sidecar,
    SkippedInput,
    Totals,
    shorten,
    sidecar_name,
    to_json,
)
from ucn.preprocessing.shards.index import IndexTable, encode_index, encode_skipped
from ucn.preprocessing.shards.tar import TarWriter
from ucn.storage.stores import Store, write_bytes

# A frame is in one pair per gap and direction. 64 encoded frames take about 20 MB.
_ENCODED_FRAMES = 64
# The longest suffix is `.attributes.npz`, and names in a tar have at most 100 bytes.
_LONGEST_KEY = 85

Outcome = Sample | tuple[str, SkippedPair]


def write_shard(
    store: Store,
    name: str,
    outcomes: Iterable[Outcome],
    image_format: ImageFormat,
    configuration: str,
    fingerprint: str,
) -> FinishedShard:
    """Writes a tar, then its sidecar, both atomically.

    Args:
        store: destination of the tar.
        name: file name of the tar.
        outcomes: samples, or (key, reason for skipping), in the order of the plan.
        image_format: format of the stored images.
        configuration: digest of the dataset's configuration.
        fingerprint: digest of the configuration and of this shard's inputs.

    Raises:
        UserError: the store cannot be written or the disk is full.
        ValueError: WebDataset would misread a key.
    """
    # A tar without a sidecar counts as incomplete.
    store.delete(sidecar_name(name))
    index: list[IndexEntry] = []
    skipped: list[SkippedInput] = []
    frames = _FrameEncoder(image_format)
    with store.publishing(name) as path, path.open("wb") as file:
        tar = TarWriter(file)
        for outcome in outcomes:
            if isinstance(outcome, Sample):
                index.append(_add_sample(tar, outcome, image_format, frames))
            else:
                key, reason = shorten(outcome[0], _LONGEST_KEY), outcome[1]
                skipped.append(SkippedInput(key=key, reason=reason.reason, detail=reason.detail))
        tar.finish()
    sidecar = Sidecar(
        shard=name,
        configuration=configuration,
        fingerprint=fingerprint,
        samples=len(index),
        matches=sum(entry.matches for entry in index),
        bytes=tar.size,
        sha256=tar.sha256.hexdigest(),
        index=index,
        skipped=skipped,
    )
    data = to_json(sidecar).encode()
    write_bytes(store, sidecar_name(name), data)
    return finished_shard(sidecar, data)


def finished_shard(sidecar: Sidecar, data: bytes) -> FinishedShard:
    """The row for the manifest, from a sidecar and its bytes."""
    return FinishedShard(
        entry=ShardEntry(
            name=sidecar.shard,
            samples=sidecar.samples,
            matches=sidecar.matches,
            bytes=sidecar.bytes,
            sha256=sidecar.sha256,
            sidecar_sha256=hashlib.sha256(data).hexdigest(),
            sidecar_bytes=len(data),
            fingerprint=sidecar.fingerprint,
        ),
        configuration=sidecar.configuration,
        index=sidecar.index,
        skipped=sidecar.skipped,
    )


def write_manifest(
    store: Store, shards: Iterable[FinishedShard], configuration: dict[str, Any]
) -> Manifest:
    """Publishes the index of a dataset, then its manifest.

    Args:
        store: store of the shards.
        shards: all shards, in any order. They may be made while they are taken.
        configuration: configuration of the dataset, JSON-serialisable.

    Raises:
        UserError: the store cannot be written.
    """
    entries: list[ShardEntry] = []
    skipped_of: dict[str, list[SkippedInput]] = {}
    table = IndexTable()
    for shard in shards:
        entries.append(shard.entry)
        skipped_of[shard.entry.name] = shard.skipped
        table.add(shard.entry.name, shard.index)
    entries.sort(key=lambda entry: (len(entry.name), entry.name))
    skipped = [(entry.name, one) for entry in entries for one in skipped_of[entry.name]]
    write_bytes(store, INDEX, encode_index(entries, table))
    write_bytes(store, SKIPPED, encode_skipped(skipped))
    listed = [one for _, one in skipped]
    manifest = Manifest(
        configuration=configuration,
        totals=add_up(entries, listed),
        shards=entries,
        skipped=listed[:LISTED_SKIPPED],
    )
    write_bytes(store, MANIFEST, to_json(manifest).encode())
    return manifest


def add_up(entries: Sequence[ShardEntry], skipped: Sequence[SkippedInput]) -> Totals:
    """Sums over the shards."""
    return Totals(
        shards=len(entries),
        samples=sum(entry.samples for entry in entries),
        matches=sum(entry.matches for entry in entries),
        bytes=sum(entry.bytes for entry in entries),
        skipped=dict(sorted(Counter(one.reason for one in skipped).items())),
    )


class _FrameEncoder:
    """Encodes each image (by sequence and frame) once while its pairs are written."""

    def __init__(self, image_format: ImageFormat) -> None:
        self._image_format = image_format
        self._encoded: dict[tuple[str, str], bytes] = {}

    def __call__(self, sample: Sample, which: int) -> bytes:
        name = (str(sample.metadata["sequence"]), str(sample.metadata[f"frame{which}"]))
        data = self._encoded.pop(name, None)
        if data is None:
            image = sample.image1 if which else sample.image0
            data = encode_image(image, self._image_format)
            if len(self._encoded) >= _ENCODED_FRAMES:
                del self._encoded[next(iter(self._encoded))]
        self._encoded[name] = data
        return data


def _add_sample(
    tar: TarWriter, sample: Sample, image_format: ImageFormat, frames: _FrameEncoder
) -> IndexEntry:
    if "." in sample.key or "/" in sample.key:
        raise ValueError(f"key {sample.key!r}: WebDataset splits names at the first dot and slash")
    key = shorten(sample.key, _LONGEST_KEY)
    encoded = encode_sample(sample, image_format, lambda which: frames(sample, which))
    return IndexEntry(
        key=key,
        sequence=str(sample.metadata["sequence"]),
        matches=len(sample.matches_N4),
        members={suffix: tar.add(f"{key}.{suffix}", data) for suffix, data in encoded.items()},
    )
