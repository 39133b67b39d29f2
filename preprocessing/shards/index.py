"""The index of a dataset: where each member of each sample lies, as arrays and as Parquet.

``index.parquet`` has one row per sample, in the order of the shards. Columns: ``shard`` and
``sha256`` (name and checksum of the tar), ``key``, ``sequence``, ``matches``, and for each member
``SUFFIX.offset`` and ``SUFFIX.size``, in bytes; null if the sample lacks the member.
"""

import hashlib
import itertools
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ucn.errors import UserError
from ucn.preprocessing.shards.format import (
    INDEX,
    MANIFEST,
    IndexEntry,
    ShardEntry,
    SkippedInput,
)
from ucn.storage.stores import Store

_ROW_GROUP = 1 << 17
_METADATA = b"ucn"
_STRINGS = ("key", "sequence", "shard", "sha256")
_ABSENT = np.iinfo(np.uint32).max
_NONE = np.iinfo(np.int64).max


class SampleLocation(NamedTuple):
    """The tar of a sample, and the sample's members in it."""

    tar: str
    entry: IndexEntry


@dataclass(frozen=True)
class SampleIndex:
    """Positions of S samples in T tars, with members of M suffixes; about 140 bytes per sample.

    Attributes:
        tars: names of the tars.
        ends_T: tar t holds the samples ``ends_T[t - 1]`` to ``ends_T[t]`` (exclusive).
        keys: strings.
        sequences: dictionary-encoded strings.
        matches_S: number of correspondences.
        suffixes: names of the members without the key.
        start_S: offset of the sample's first member in its tar, bytes.
        offset_MS: offset of each member from ``start_S``; ``_ABSENT`` if there is none.
        size_MS: size of each member, bytes.
    """

    tars: tuple[str, ...]
    ends_T: NDArray[np.int64]
    keys: pa.ChunkedArray
    sequences: pa.ChunkedArray
    matches_S: NDArray[np.int64]
    suffixes: tuple[str, ...]
    start_S: NDArray[np.int64]
    offset_MS: NDArray[np.uint32]
    size_MS: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.matches_S)

    def find(self, key: str) -> int | None:
        """Number of the sample with this key; None if there is none."""
        number: int = pc.index(self.keys, key).as_py()
        return None if number < 0 else number

    def locate(self, number: int) -> SampleLocation:
        """Position of sample ``number``.

        Raises:
            ValidationError: the key is not one of a sample.
        """
        start = int(self.start_S[number])
        columns = zip(
            self.suffixes,
            self.offset_MS[:, number].tolist(),
            self.size_MS[:, number].tolist(),
            strict=True,
        )
        entry = IndexEntry(
            key=self.keys[number].as_py(),
            sequence=self.sequences[number].as_py(),
            matches=int(self.matches_S[number]),
            members={
                suffix: (start + offset, size)
                for suffix, offset, size in columns
                if offset != _ABSENT
            },
        )
        return SampleLocation(self.tars[np.searchsorted(self.ends_T, number, "right")], entry)


class IndexTable:
    """Collects the index entries of shards, in any order."""

    def __init__(self) -> None:
        # Compact columns: entries as objects would take 1 KB per sample.
        self._rows: dict[str, tuple[int, int]] = {}
        self._keys = bytearray()
        self._key_ends = array("q", [0])
        self._sequences: dict[str, int] = {}
        self._sequence = array("i")
        self._matches = array("q")
        self._members: dict[str, tuple[array[int], array[int]]] = {}

    def add(self, tar: str, entries: Sequence[IndexEntry]) -> None:
        """Adds the samples of one tar."""
        first = len(self._matches)
        self._rows[tar] = (first, len(entries))
        for row, entry in enumerate(entries, first):
            self._keys += entry.key.encode()
            self._key_ends.append(len(self._keys))
            self._sequence.append(self._sequences.setdefault(entry.sequence, len(self._sequences)))
            self._matches.append(entry.matches)
            for suffix, (offset, size) in entry.members.items():
                offsets, sizes = self._members.setdefault(suffix, (array("q"), array("q")))
                missing = [-1] * (row - len(offsets))
                offsets.extend([*missing, offset])
                sizes.extend([*missing, size])

    def chunks(self, shards: Sequence[ShardEntry]) -> Iterator[pa.Table]:
        """Yields the rows in the order of ``shards``, which are those that were added."""
        total = len(self._matches)
        columns = {
            "key": pa.LargeStringArray.from_buffers(
                total, pa.py_buffer(self._key_ends), pa.py_buffer(self._keys)
            ),
            "sequence": pa.DictionaryArray.from_arrays(
                pa.array(np.asarray(self._sequence)), pa.array([*self._sequences], pa.string())
            ),
            "matches": pa.array(np.asarray(self._matches)),
        }
        for suffix in sorted(self._members):
            for name, values in zip(("offset", "size"), self._members[suffix], strict=True):
                values.extend([-1] * (total - len(values)))
                known = np.asarray(values)
                columns[f"{suffix}.{name}"] = pa.array(known, mask=known < 0)
        rows = pa.table(columns)
        spans = [self._rows[shard.name] for shard in shards]
        order = [np.arange(first, first + count) for first, count in spans]
        order_S = np.concatenate([*order, np.zeros(0, np.int64)])
        shard_S = np.repeat(np.arange(len(shards), dtype=np.int32), [count for _, count in spans])
        names = pa.array([shard.name for shard in shards], pa.string())
        checksums = pa.array([shard.sha256 for shard in shards], pa.string())
        for start in range(0, max(total, 1), _ROW_GROUP):
            part = slice(start, start + _ROW_GROUP)
            numbers = pa.array(shard_S[part])
            chunk = rows.take(order_S[part])
            for place, name in enumerate(("key", "sequence")):
                chunk = chunk.set_column(place, name, chunk[name].cast(pa.string()))
            chunk = chunk.append_column("shard", names.take(numbers))
            yield chunk.append_column("sha256", checksums.take(numbers))


def encode_index(shards: Sequence[ShardEntry], table: IndexTable) -> pa.Buffer:
    """Formats ``index.parquet``; equal rows give equal bytes for one version of pyarrow.

    Args:
        shards: all shards of the dataset, in order.
        table: their samples.
    """
    chunks = table.chunks(shards)
    first = next(chunks)
    metadata = {_METADATA: json.dumps({"shards": _identity(shards)})}
    numbers = [name for name in first.column_names if name not in _STRINGS]
    target = pa.BufferOutputStream()
    with pq.ParquetWriter(
        target,
        first.schema.with_metadata(metadata),
        compression="zstd",
        use_dictionary=["shard", "sequence", "sha256"],
        column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
        write_page_checksum=True,
    ) as writer:
        for chunk in itertools.chain([first], chunks):
            writer.write_table(chunk, _ROW_GROUP)
    return target.getvalue()


def encode_skipped(skipped: Iterable[tuple[str, SkippedInput]]) -> pa.Buffer:
    """Formats ``skipped.parquet``.

    Args:
        skipped: (name of the tar, input without a sample), in the order of the plan.
    """
    rows = [{"shard": tar} | one.model_dump() for tar, one in skipped]
    schema = pa.schema([(name, pa.string()) for name in ("shard", *SkippedInput.model_fields)])
    target = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema), target, compression="zstd")
    return target.getvalue()


def is_same_table(data: bytes, expected: pa.Buffer) -> bool:
    """Whether a Parquet file has the expected bytes, or the same rows by another pyarrow."""
    if expected.equals(pa.py_buffer(data)):
        return True
    try:
        found, wanted = pq.ParquetFile(pa.BufferReader(data)), pq.ParquetFile(expected)
        return bool(
            found.metadata.created_by != wanted.metadata.created_by
            and found.read().equals(wanted.read(), check_metadata=True)
        )
    except (pa.ArrowException, OSError, ValueError):
        return False


def read_index(store: Store, shards: Sequence[ShardEntry]) -> SampleIndex:
    """Reads ``index.parquet`` with one request.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is damaged, or of other shards.
    """
    data = store.read(INDEX)
    try:
        file = pq.ParquetFile(
            pa.BufferReader(data),
            read_dictionary=["sequence"],
            page_checksum_verification=True,
        )
        of = json.loads((file.schema_arrow.metadata or {}).get(_METADATA, b"{}"))
        if of.get("shards") != _identity(shards):
            raise UserError(
                f"{store.uri}/{INDEX}: is not of the shards in {MANIFEST}; delete it and run "
                "`ucn preprocess` again"
            )
        columns = [name for name in file.schema_arrow.names if name not in ("shard", "sha256")]
        chunks = (
            file.read_row_group(group, columns, use_threads=False)
            for group in range(file.num_row_groups)
        )
        return _assemble(shards, chunks)
    except (pa.ArrowException, OSError, ValueError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{store.uri}/{INDEX}: not an index of samples ({reason}); delete it and run "
            "`ucn preprocess` again"
        ) from error


def index_of_sidecars(
    shards: Sequence[ShardEntry], entries: Iterable[Sequence[IndexEntry]]
) -> SampleIndex:
    """The index of a dataset without ``index.parquet``, from the entries of its sidecars."""
    table = IndexTable()
    for shard, samples in zip(shards, entries, strict=True):
        table.add(shard.name, samples)
    return _assemble(shards, table.chunks(shards))


def _assemble(shards: Sequence[ShardEntry], chunks: Iterable[pa.Table]) -> SampleIndex:
    """Arrays of all samples.

    Raises:
        ValueError: the rows are not those of the shards.
    """
    counts_T = np.array([shard.samples for shard in shards], np.int64)
    bytes_S = np.repeat(np.array([shard.bytes for shard in shards], np.int64), counts_T)
    total = len(bytes_S)
    matches_S, start_S = np.empty(total, np.int64), np.empty(total, np.int64)
    keys, sequences = [], []
    suffixes: tuple[str, ...] = ()
    offset_MS = size_MS = np.empty((0, total), np.uint32)
    end = 0
    for chunk in chunks:
        part = slice(end, end + len(chunk))
        end = part.stop
        if end > total:
            break
        if not len(chunk):
            continue
        if not part.start:
            names = chunk.column_names
            suffixes = tuple(sorted(n.removesuffix(".size") for n in names if n.endswith(".size")))
            offset_MS, size_MS = (np.empty((len(suffixes), total), np.uint32) for _ in range(2))
        offsets = [_with_nulls(chunk[f"{suffix}.offset"], _NONE) for suffix in suffixes]
        first_S = np.minimum.reduce([*offsets, np.full(len(chunk), _NONE)])
        for row, (suffix, offset_S) in enumerate(zip(suffixes, offsets, strict=True)):
            size_S = _with_nulls(chunk[f"{suffix}.size"], 0)
            absent_S = offset_S == _NONE
            beyond_S = offset_S > bytes_S[part] - size_S
            relative_S = offset_S - first_S
            relative_S[absent_S] = 0
            if min(first_S.min(), size_S.min()) < 0 or (beyond_S & ~absent_S).any():
                raise ValueError(f"{suffix} lies beyond the end of its tar")
            if max(relative_S.max(), size_S.max()) >= _ABSENT:
                raise ValueError(f"{suffix} has 4 GiB, or lies as far from other members")
            relative_S[absent_S] = _ABSENT
            offset_MS[row, part], size_MS[row, part] = relative_S, size_S
        keys += chunk["key"].chunks
        sequences += chunk["sequence"].dictionary_encode().chunks
        matches_S[part], start_S[part] = chunk["matches"].to_numpy(), first_S
    if end != total:
        raise ValueError(f"not {total} samples")
    return SampleIndex(
        tars=tuple(shard.name for shard in shards),
        ends_T=np.cumsum(counts_T),
        keys=pa.chunked_array(keys, pa.string()),
        sequences=pa.chunked_array(sequences, pa.dictionary(pa.int32(), pa.string())),
        matches_S=matches_S,
        suffixes=suffixes,
        start_S=start_S,
        offset_MS=offset_MS,
        size_MS=size_MS,
    )


def _with_nulls(column: pa.ChunkedArray, value: int) -> NDArray[np.int64]:
    """Integers of a column, with a value for null.

    Raises:
        ValueError: the column has other values.
    """
    numbers = column.fill_null(value) if column.null_count else column
    return np.asarray(numbers.to_numpy(), np.int64)


def _identity(shards: Sequence[ShardEntry]) -> str:
    """Digest of the shards that an index is of."""
    lines = "\n".join(f"{shard.name} {shard.sha256} {shard.samples}" for shard in shards)
    return hashlib.sha256(lines.encode()).hexdigest()
