"""Verify a dataset of shards against its manifest, bit by bit and sample by sample."""

import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from preprocessing.errors import UserError
from preprocessing.sample import Sample
from preprocessing.shards.format import (
    Manifest,
    ShardEntry,
    Sidecar,
    read_manifest,
    read_sidecar,
    sidecar_path,
)
from preprocessing.shards.read import read_sample
from preprocessing.shards.write import file_sha256


def verify_dataset(
    folder: Path, on_shard: Callable[[str], object] = lambda name: None
) -> list[str]:
    """Check checksums, counts, offsets, and that every sample is readable and in range.

    Args:
        folder: the dataset.
        on_shard: called with each shard's name once it is checked.

    Returns:
        What is wrong, a line each; empty for a sound dataset.

    Raises:
        UserError: there is no manifest to check against.
    """
    manifest = read_manifest(folder)
    faults: list[str] = []
    keys: Counter[str] = Counter()
    for shard in manifest.shards:
        faults += _verify_shard(folder / shard.name, shard, keys)
        on_shard(shard.name)
    faults += [f"key {key} occurs {count} times" for key, count in keys.items() if count > 1]
    faults += _verify_totals(manifest)
    known = {shard.name for shard in manifest.shards}
    strangers = sorted(tar.name for tar in folder.glob("*.tar") if tar.name not in known)
    faults += [f"{name}: not in the manifest" for name in strangers]
    return faults


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


def _verify_shard(tar: Path, shard: ShardEntry, keys: Counter[str]) -> Iterator[str]:
    if not tar.exists():
        yield f"{tar.name}: missing"
        return
    size = tar.stat().st_size
    if size != shard.bytes:
        yield f"{tar.name}: {size} bytes, {shard.bytes} expected (cut or overwritten)"
    elif file_sha256(tar) != shard.sha256:
        yield f"{tar.name}: sha256 differs (damaged)"
    path = sidecar_path(tar)
    try:
        sidecar = read_sidecar(path)
    except UserError as error:
        yield str(error)
        return
    if file_sha256(path) != shard.sidecar_sha256 or sidecar.shard != tar.name:
        yield f"{path.name}: is not the sidecar of {tar.name} (damaged or swapped)"
        return
    yield from _verify_index(tar, sidecar)
    for entry in sidecar.index:
        keys[entry.key] += 1
        try:
            sample = read_sample(tar, entry)
        except UserError as error:
            yield str(error)
            continue
        yield from (f"{tar.name}: {entry.key}: {fault}" for fault in sample_faults(sample))


def _verify_index(tar: Path, sidecar: Sidecar) -> Iterator[str]:
    """The members that a tar reader finds are those of the index, at its offsets."""
    expected = {
        (f"{entry.key}.{suffix}", offset, size)
        for entry in sidecar.index
        for suffix, (offset, size) in entry.members.items()
    }
    try:
        with tarfile.open(tar, "r:") as archive:
            found = {(member.name, member.offset_data, member.size) for member in archive}
    except (tarfile.TarError, OSError) as error:
        yield f"{tar.name}: not a readable tar ({error})"
        return
    for name, _, _ in sorted(expected - found):
        yield f"{tar.name}: member {name} is missing or moved"
    for name, _, _ in sorted(found - expected):
        yield f"{tar.name}: member {name} is not in the sidecar"


def _verify_totals(manifest: Manifest) -> Iterator[str]:
    totals = manifest.totals
    for name in ("samples", "matches", "bytes"):
        total = sum(getattr(shard, name) for shard in manifest.shards)
        if total != getattr(totals, name):
            yield f"manifest: {name} add up to {total}, not {getattr(totals, name)}"
    if sum(totals.skipped.values()) != len(manifest.skipped):
        yield "manifest: the counts of skipped inputs disagree with their list"
