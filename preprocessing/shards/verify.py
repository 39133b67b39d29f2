"""Verify a dataset of shards against its manifest, bit by bit and sample by sample."""

import hashlib
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocessing.errors import UserError
from preprocessing.sample import Sample
from preprocessing.shards.format import (
    MANIFEST,
    Manifest,
    ShardEntry,
    Sidecar,
    parse_sidecar,
    read_manifest,
    sidecar_name,
)
from preprocessing.shards.read import read_sample
from preprocessing.shards.write import file_sha256
from preprocessing.stores.base import Store
from preprocessing.stores.local import LocalStore
from preprocessing.stores.open import open_store
from preprocessing.tasks import run_tasks


def verify_dataset(
    uri: Path | str, workers: int | None = 0, on_shard: Callable[[str], object] = lambda name: None
) -> list[str]:
    """Check checksums, counts, offsets, and that every sample is readable and in range.

    Args:
        uri: the dataset.
        workers: shards checked at once; 0 works without Ray.
        on_shard: called with each shard's name once it is checked.

    Returns:
        What is wrong, a line each that begins with the file; empty for a sound dataset.

    Raises:
        UserError: there is no manifest to check against.
    """
    store = open_store(uri)
    manifest = read_manifest(store)
    tasks = [_Task(store, shard) for shard in manifest.shards]
    found: dict[int, tuple[list[str], list[str]]] = {}
    for index, result in run_tasks(_verify_shard, tasks, workers):
        found[index] = result
        on_shard(tasks[index].shard.name)
    faults = [fault for index in sorted(found) for fault in found[index][0]]
    keys = Counter(key for _, shard_keys in found.values() for key in shard_keys)
    faults += [
        f"{MANIFEST}: key {key} occurs {count} times" for key, count in keys.items() if count > 1
    ]
    faults += _verify_totals(manifest)
    known = {name for shard in manifest.shards for name in (shard.name, sidecar_name(shard.name))}
    strangers = sorted(store.sizes().keys() - known - {MANIFEST})
    return faults + [f"{name}: not in the manifest" for name in strangers]


@dataclass(frozen=True)
class _Task:
    store: Store
    shard: ShardEntry


def sample_faults(sample: Sample) -> Iterator[str]:
    """What the format promises and ``sample`` does not keep."""
    matches = sample.matches_N4
    if matches.dtype != np.float32 or matches.ndim != 2 or matches.shape[1] != 4:
        yield f"matches are {matches.dtype} {matches.shape}, not float32 [N, 4]"
        return
    if not np.isfinite(matches).all():
        yield "matches are not finite"
    for image, columns in ((sample.image0, matches[:, :2]), (sample.image1, matches[:, 2:])):
        height, width = image.shape[:2]
        inside = (columns >= -0.5).all(1) & (columns <= np.array([width, height]) - 0.5).all(1)
        if not inside.all():
            yield f"{int((~inside).sum())} matches lie outside their image"
    if len(np.unique(matches, axis=0)) != len(matches):
        yield "matches are duplicated"
    if sample.metadata.get("matches") != len(matches):
        yield f"{len(matches)} matches where the metadata says {sample.metadata.get('matches')}"
    for name, values in sample.attributes.items():
        if len(values) != len(matches):
            yield f"attribute {name} has {len(values)} rows for {len(matches)} matches"


def _verify_shard(task: _Task) -> tuple[list[str], list[str]]:
    """Faults of a shard, and the keys of its samples."""
    store, name = task.store, task.shard.name
    try:
        with store.local_copy(name) as path:
            faults = list(_verify_tar(path, task.shard))
            sidecar, sidecar_faults = _verify_sidecar(store, task.shard)
            faults += sidecar_faults
            if sidecar is None:
                return faults, []
            faults += _verify_index(path, name, sidecar)
            faults += _verify_samples(LocalStore(str(path.parent)), path.name, sidecar)
            return faults, [entry.key for entry in sidecar.index]
    except FileNotFoundError:
        return [f"{name}: missing"], []


def _verify_tar(path: Path, shard: ShardEntry) -> Iterator[str]:
    size = path.stat().st_size
    if size != shard.bytes:
        yield f"{shard.name}: {size} bytes, {shard.bytes} expected (cut or overwritten)"
    elif file_sha256(path) != shard.sha256:
        yield f"{shard.name}: sha256 differs (damaged)"


def _verify_sidecar(store: Store, shard: ShardEntry) -> tuple[Sidecar | None, list[str]]:
    name = sidecar_name(shard.name)
    try:
        data = store.read(name)
        sidecar = parse_sidecar(store, shard.name, data)
    except FileNotFoundError:
        return None, [f"{name}: missing"]
    except UserError as error:
        return None, [str(error).removeprefix(f"{store.uri}/")]
    same = hashlib.sha256(data).hexdigest() == shard.sidecar_sha256
    if not same or sidecar.shard != shard.name:
        return None, [f"{name}: is not the sidecar of {shard.name} (damaged or swapped)"]
    return sidecar, []


def _verify_index(path: Path, name: str, sidecar: Sidecar) -> Iterator[str]:
    """The members that a tar reader finds are those of the index, at its offsets."""
    expected = {
        (f"{entry.key}.{suffix}", offset, size)
        for entry in sidecar.index
        for suffix, (offset, size) in entry.members.items()
    }
    try:
        with tarfile.open(path, "r:") as archive:
            found = {(member.name, member.offset_data, member.size) for member in archive}
    except (tarfile.TarError, OSError) as error:
        yield f"{name}: not a readable tar ({error})"
        return
    for member, _, _ in sorted(expected - found):
        yield f"{name}: member {member} is missing or moved"
    for member, _, _ in sorted(found - expected):
        yield f"{name}: member {member} is not in the sidecar"


def _verify_samples(folder: Store, name: str, sidecar: Sidecar) -> Iterator[str]:
    for entry in sidecar.index:
        try:
            sample = read_sample(folder, name, entry)
        except UserError as error:
            yield str(error).removeprefix(f"{folder.uri}/")
            continue
        yield from (f"{name}: {entry.key}: {fault}" for fault in sample_faults(sample))


def _verify_totals(manifest: Manifest) -> Iterator[str]:
    totals = manifest.totals
    for name in ("samples", "matches", "bytes"):
        total = sum(getattr(shard, name) for shard in manifest.shards)
        if total != getattr(totals, name):
            yield f"{MANIFEST}: {name} add up to {total}, not {getattr(totals, name)}"
    if sum(totals.skipped.values()) != len(manifest.skipped):
        yield f"{MANIFEST}: the counts of skipped inputs disagree with their list"
