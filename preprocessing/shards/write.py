"""Write shards: a reproducible tar, the sidecar that commits it, and last the manifest."""

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from preprocessing import storage
from preprocessing.errors import SkippedPair
from preprocessing.sample import Sample
from preprocessing.shards.encode import ImageFormat, encode_image, encode_sample
from preprocessing.shards.format import (
    MANIFEST,
    IndexEntry,
    Manifest,
    ShardEntry,
    Sidecar,
    SkippedInput,
    Totals,
    read_sidecar,
    sidecar_path,
    to_json,
)

# A frame takes part in a pair per gap and direction; 64 encoded frames are some 20 MB.
_ENCODED_FRAMES = 64

Outcome = Sample | tuple[str, SkippedPair]


def write_shard(
    tar_path: Path,
    outcomes: Iterable[Outcome],
    image_format: ImageFormat,
    configuration: str,
    fingerprint: str,
) -> Sidecar:
    """Write a tar and its sidecar, both atomically, the sidecar last.

    Args:
        tar_path: where the tar goes.
        outcomes: in the order of the plan, samples or (key, why it was skipped).
        image_format: how images are stored.
        configuration: digest of the dataset's configuration.
        fingerprint: digest of the configuration and of this shard's inputs.

    Returns:
        The sidecar as written.

    Raises:
        UserError: the folder cannot be written or the disk is full.
        ValueError: a key that WebDataset would read as something else.
    """
    sidecar_path(tar_path).unlink(missing_ok=True)
    index: list[IndexEntry] = []
    skipped: list[SkippedInput] = []
    frames = _FrameEncoder(image_format)
    with storage.atomic_path(tar_path) as temporary:
        with temporary.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=_TAR) as tar:
            for outcome in outcomes:
                if isinstance(outcome, Sample):
                    index.append(_add_sample(tar, file, outcome, image_format, frames))
                else:
                    key, reason = outcome
                    skipped.append(
                        SkippedInput(key=key, reason=reason.reason, detail=reason.detail)
                    )
        sha256 = file_sha256(temporary)
        size = temporary.stat().st_size
    sidecar = Sidecar(
        shard=tar_path.name,
        configuration=configuration,
        fingerprint=fingerprint,
        samples=len(index),
        matches=sum(entry.matches for entry in index),
        bytes=size,
        sha256=sha256,
        index=index,
        skipped=skipped,
    )
    storage.write_text(sidecar_path(tar_path), to_json(sidecar))
    return sidecar


def write_manifest(folder: Path, shards: Sequence[str], configuration: dict[str, Any]) -> Manifest:
    """Publish the manifest of a dataset from its sidecars, unless it stands there already.

    Args:
        folder: where the shards lie.
        shards: file names of the tars in order.
        configuration: what the shards were made from, JSON-serialisable.

    Raises:
        UserError: a sidecar is missing, or the folder cannot be written.
    """
    entries: list[ShardEntry] = []
    skipped: list[SkippedInput] = []
    for name in shards:
        path = sidecar_path(folder / name)
        sidecar = read_sidecar(path)
        skipped += sidecar.skipped
        entries.append(
            ShardEntry(
                name=name,
                samples=sidecar.samples,
                matches=sidecar.matches,
                bytes=sidecar.bytes,
                sha256=sidecar.sha256,
                sidecar_sha256=file_sha256(path),
            )
        )
    manifest = Manifest(
        configuration=configuration,
        totals=Totals(
            shards=len(entries),
            samples=sum(entry.samples for entry in entries),
            matches=sum(entry.matches for entry in entries),
            bytes=sum(entry.bytes for entry in entries),
            skipped=dict(sorted(Counter(one.reason for one in skipped).items())),
        ),
        shards=entries,
        skipped=skipped,
    )
    path, text = folder / MANIFEST, to_json(manifest)
    if not path.exists() or path.read_text() != text:
        storage.write_text(path, text)
    return manifest


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# USTAR has no room for anything but what is set here; PAX would add headers for long names.
_TAR = tarfile.USTAR_FORMAT


class _FrameEncoder:
    """Encodes each frame once while it is in use: (sequence, frame) names an image."""

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
    tar: tarfile.TarFile,
    file: io.BufferedWriter,
    sample: Sample,
    image_format: ImageFormat,
    frames: _FrameEncoder,
) -> IndexEntry:
    if "." in sample.key or "/" in sample.key:
        raise ValueError(f"key {sample.key!r}: WebDataset splits names at the first dot and slash")
    members: dict[str, tuple[int, int]] = {}
    encoded = encode_sample(sample, image_format, lambda which: frames(sample, which))
    for suffix, data in encoded.items():
        info = tarfile.TarInfo(f"{sample.key}.{suffix}")
        info.size = len(data)
        info.mtime = 0
        info.mode = 0o644
        info.uname = info.gname = "ucn"
        tar.addfile(info, io.BytesIO(data))
        padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        members[suffix] = (file.tell() - padded, len(data))
    return IndexEntry(
        key=sample.key,
        sequence=str(sample.metadata["sequence"]),
        matches=len(sample.matches_N4),
        members=members,
    )
