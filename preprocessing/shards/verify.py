"""Verifies a dataset against its manifest, by checksums and by decoding every sample.

Each tar, its sidecar and its row in the manifest are compared. If they disagree, the one that
contradicts the other two is reported.
"""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from ucn.cluster.tasks import run_tasks
from ucn.errors import UserError
from ucn.preprocessing.shards.check_sample import sample_faults
from ucn.preprocessing.shards.format import (
    CARD,
    INDEX,
    LISTED_SKIPPED,
    MANIFEST,
    SKIPPED,
    FinishedShard,
    Manifest,
    ShardEntry,
    Sidecar,
    digest,
    parse_manifest,
    parse_sidecar,
    read_manifest_bytes,
    shard_name,
    sidecar_name,
    to_json,
)
from ucn.preprocessing.shards.index import IndexTable, encode_index, encode_skipped, is_same_table
from ucn.preprocessing.shards.read import read_sample
from ucn.preprocessing.shards.write import add_up, finished_shard
from ucn.storage.files import TEMPORARY_PREFIX, file_sha256, is_litter
from ucn.storage.lock import LOCK_NAME
from ucn.storage.stores import LocalStore, Store, open_store

# Largest number of faults reported per tar; a truncated tar would have one for each member.
_LINES = 3


def verify_dataset(uri: Path | str, workers: int | None = 0) -> list[str]:
    """Checks checksums, counts and offsets, and that every sample is readable and in range.

    Args:
        uri: folder or URI of the dataset.
        workers: number of shards checked in parallel; 0 runs without Ray.

    Returns:
        One line per fault, starting with the file name; empty for a valid dataset.

    Raises:
        UserError: the manifest is missing or invalid.
    """
    store = open_store(uri)
    data = read_manifest_bytes(store)
    try:
        manifest = parse_manifest(store, data)
    except UserError as error:
        return [_without_folder(store, error)]
    names = [shard.name for shard in manifest.shards]
    checked: dict[int, _Checked] = {}
    table = IndexTable()
    tasks = (_Task(store, name) for name in names)
    with tqdm(total=len(names), desc="verify", unit="shard") as progress:
        for number, found in run_tasks(_check_shard, tasks, workers):
            table.add(names[number], found.sidecar.index if found.sidecar else [])
            checked[number] = found.without_index()
            progress.update()
    in_order = [checked[number] for number in range(len(names))]
    faults = [
        *_faults_of_manifest(manifest, data, in_order),
        *(
            fault
            for shard, found in zip(manifest.shards, in_order, strict=True)
            for fault in [*_faults_of_shard(shard, found, manifest), *found.faults]
        ),
    ]
    if not faults:
        # The sidecars agree with everything else.
        skipped = [
            (found.sidecar.entry.name, one)
            for found in in_order
            if found.sidecar is not None
            for one in found.sidecar.skipped
        ]
        faults += _faults_of_table(store, INDEX, encode_index(manifest.shards, table))
        faults += _faults_of_table(store, SKIPPED, encode_skipped(skipped))
    return [*faults, *_repeated_keys(names, in_order), *_unexpected_files(store, names)]


@dataclass(frozen=True)
class _Task:
    store: Store
    name: str


@dataclass(frozen=True)
class _Checked:
    """Result of checking one tar and its sidecar.

    Attributes:
        size, sha256: of the tar; None if it is missing.
        sidecar: content of the sidecar; None if it is missing or invalid.
        keys: keys of the samples in the sidecar.
        faults: faults of the sidecar, and of the content of the tar.
    """

    size: int | None
    sha256: str | None
    sidecar: FinishedShard | None
    keys: list[str]
    faults: list[str]

    def without_index(self) -> "_Checked":
        if self.sidecar is None:
            return self
        return replace(self, sidecar=self.sidecar.model_copy(update={"index": []}))


def _faults_of_table(store: Store, name: str, expected: pa.Buffer) -> list[str]:
    """Compares a Parquet file, which earlier versions did not write, with the sidecars."""
    try:
        same = is_same_table(store.read(name), expected)
    except FileNotFoundError:
        return []
    return [] if same else [f"{name}: its rows are not those of the sidecars (damaged)"]


def _check_shard(task: _Task) -> _Checked:
    store, name = task.store, task.name
    sidecar, finished, faults = _check_sidecar(store, name)
    keys = [entry.key for entry in sidecar.index] if sidecar else []
    try:
        with store.local_copy(name) as path:
            size, sha256 = path.stat().st_size, file_sha256(path)
            if sidecar is not None:
                faults += _first([*_faults_of_index(path, name, sidecar)], name)
                folder = LocalStore(str(path.parent))
                faults += _first([*_faults_of_samples(folder, name, sidecar)], name)
            return _Checked(size, sha256, finished, keys, faults)
    except FileNotFoundError:
        return _Checked(None, None, finished, keys, faults)


def _check_sidecar(
    store: Store, name: str
) -> tuple[Sidecar | None, FinishedShard | None, list[str]]:
    """The sidecar of a tar, its row for the manifest, and its faults."""
    file = sidecar_name(name)
    try:
        data = store.read(file)
    except FileNotFoundError:
        return None, None, [f"{file}: missing"]
    try:
        sidecar = parse_sidecar(store, name, data)
    except UserError as error:
        return None, None, [_without_folder(store, error)]
    if sidecar.shard != name:
        return None, None, [f"{file}: is not the sidecar of {name}, but of {sidecar.shard}"]
    faults = []
    sums = (len(sidecar.index), sum(entry.matches for entry in sidecar.index))
    if sums != (sidecar.samples, sidecar.matches):
        faults.append(f"{file}: its counts are not those of its index")
    return sidecar, finished_shard(sidecar, data), faults


def _faults_of_index(path: Path, name: str, sidecar: Sidecar) -> Iterator[str]:
    """Differences between the members of a tar and its index."""
    expected = {
        (f"{entry.key}.{suffix}", offset, size)
        for entry in sidecar.index
        for suffix, (offset, size) in entry.members.items()
    }
    try:
        with tarfile.open(path, "r:") as archive:
            members = list(archive)
    except (tarfile.TarError, OSError) as error:
        yield f"{name}: not a readable tar ({error})"
        return
    found = {(_shown(member.name), member.offset_data, member.size) for member in members}
    for other in sorted(_shown(member.name) for member in members if not member.isreg()):
        yield f"{name}: member {other} is not a file, but a link, folder or device"
    for member, _, _ in sorted(expected - found):
        yield f"{name}: member {member} is missing or moved"
    for member, _, _ in sorted(found - expected):
        yield f"{name}: member {member} is not in the sidecar"


def _faults_of_samples(folder: Store, name: str, sidecar: Sidecar) -> Iterator[str]:
    for entry in sidecar.index:
        try:
            sample = read_sample(folder, name, entry)
        except UserError as error:
            yield _without_folder(folder, error)
            continue
        for fault in sample_faults(sample):
            yield f"{name}: {entry.key}: {fault}"
        if len(sample.matches_N4) != entry.matches:
            yield f"{name}: {entry.key}: {len(sample.matches_N4)} matches, not {entry.matches}"


def _faults_of_shard(row: ShardEntry, found: _Checked, manifest: Manifest) -> Iterator[str]:
    """Differences between tar, sidecar and manifest row."""
    said = None if found.sidecar is None else found.sidecar.entry
    if found.sha256 is None:
        yield f"{row.name}: missing"
    elif found.sha256 not in (row.sha256, said.sha256 if said else row.sha256):
        others = [one.name for one in manifest.shards if one.sha256 == found.sha256]
        if others:
            yield f"{row.name}: holds what belongs into {others[0]} (swapped or copied)"
        elif found.size != row.bytes:
            yield f"{row.name}: {found.size} bytes, {row.bytes} expected (cut or overwritten)"
        else:
            yield f"{row.name}: sha256 differs (damaged)"
    if said is None or said == row:
        return
    names = [name for name in ShardEntry.__slots__ if getattr(said, name) != getattr(row, name)]
    if said.sidecar_sha256 == row.sidecar_sha256:
        yield f"{MANIFEST}: {', '.join(names)} of {row.name} differ from its sidecar (damaged)"
    else:
        file = sidecar_name(row.name)
        yield f"{file}: differs from {MANIFEST} in {', '.join(names)} (one of them is damaged)"


def _faults_of_manifest(
    manifest: Manifest, data: bytes, checked: Sequence[_Checked]
) -> Iterator[str]:
    """Faults of the manifest, without its rows."""
    shards = [found.sidecar for found in checked if found.sidecar is not None]
    configuration = digest(manifest.configuration)
    if any(shard.configuration != configuration for shard in shards):
        yield f"{MANIFEST}: configuration is not that of the shards (damaged)"
    split = str(manifest.configuration.get("split"))
    if any(row.name != shard_name(split, at) for at, row in enumerate(manifest.shards)):
        yield f"{MANIFEST}: names of shards are not those of its split (damaged)"
    skipped = [one for shard in shards for one in shard.skipped]
    if len(shards) < len(checked):
        # Without all sidecars, the manifest's own list is the best there is.
        skipped = manifest.skipped
    if skipped[:LISTED_SKIPPED] != manifest.skipped:
        yield f"{MANIFEST}: skipped is not the list of the sidecars (damaged)"
    totals = add_up(manifest.shards, skipped)
    if len(skipped) == LISTED_SKIPPED and len(shards) < len(checked):
        # The list may have been cut.
        totals = totals.model_copy(update={"skipped": manifest.totals.skipped})
    if totals != manifest.totals:
        yield f"{MANIFEST}: totals are not those of its shards (damaged)"
    if to_json(manifest).encode() != data:
        yield f"{MANIFEST}: not as `ucn preprocess` writes it (damaged)"


def _repeated_keys(names: Sequence[str], checked: Sequence[_Checked]) -> Iterator[str]:
    first: dict[str, str] = {}
    for name, found in zip(names, checked, strict=True):
        for key in found.keys:
            if key in first:
                yield f"{name}: key {key} is in {first[key]} already"
            first.setdefault(key, name)


def _unexpected_files(store: Store, names: Sequence[str]) -> Iterator[str]:
    known = {file for name in names for file in (name, sidecar_name(name))}
    known |= {MANIFEST, INDEX, SKIPPED, CARD}
    for file in sorted(store.sizes().keys() - known):
        if file == LOCK_NAME:
            yield f"{file}: a run works here, or was interrupted; `ucn preprocess` sweeps it"
        elif file.startswith(TEMPORARY_PREFIX):
            yield f"{file}: left by an interrupted run; `ucn preprocess` sweeps it"
        elif not is_litter(file):
            yield f"{file}: not in the manifest"


def _first(faults: list[str], name: str) -> list[str]:
    """The first faults, and the number of further ones."""
    more = len(faults) - _LINES
    return [*faults[:_LINES], f"{name}: {more} more of this kind"] if more > 0 else faults


def _shown(member: str) -> str:
    """Escapes a name from a tar, which may contain terminal control characters."""
    return member if member.isprintable() else repr(member)


def _without_folder(store: Store, error: UserError) -> str:
    """File and cause of an error, without the remedy, which is the same for all faults."""
    return str(error).removeprefix(f"{store.uri}/").rpartition("; ")[0]
