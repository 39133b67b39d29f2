"""The shard format: names, versions, and the models of sidecar and manifest.

A dataset is a folder of WebDataset tars ``SPLIT-000000.tar``, their index ``index.parquet``, and
one ``manifest.json``. Each tar has a sidecar ``SPLIT-000000.json``, which marks it as complete.
``skipped.parquet`` lists the inputs without a sample, and ``card.md`` describes the dataset. See
docs/formats.md.
"""

import hashlib
import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from ucn.errors import UserError
from ucn.storage.stores import Store

FORMAT = "ucn-shards"
VERSION = 1
MANIFEST = "manifest.json"
INDEX = "index.parquet"
SKIPPED = "skipped.parquet"
CARD = "card.md"
LISTED_SKIPPED = 10_000
"""Skipped inputs that the manifest lists, at most."""

# Manifests and sidecars are untrusted: this pattern excludes paths out of the folder.
TarName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,120}\.tar$")]
Hexadecimal = Annotated[str, Field(pattern=r"^[0-9a-f]{0,64}$")]
Key = Annotated[str, Field(pattern=r"^[^./\\\x00-\x1f\x7f]{1,255}$")]
Suffix = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]
Count = Annotated[int, Field(ge=0, lt=2**62)]

T = TypeVar("T", bound=BaseModel)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SkippedInput(_Record):
    """An input that gave no sample."""

    key: str
    reason: str
    detail: str = ""


class IndexEntry(_Record):
    """Position of one sample in its tar: (byte offset, size) of each member, by suffix."""

    key: Key
    sequence: str
    matches: Count
    members: dict[Suffix, tuple[Count, Count]]


class Sidecar(_Record):
    """Index and checksum of one tar. It exists only if the tar is complete.

    Attributes:
        shard: file name of the tar.
        configuration: digest of the dataset's configuration.
        fingerprint: digest of the configuration and of the inputs of this shard.
        samples: number of samples.
        matches: total number of correspondences.
        bytes: size of the tar.
        sha256: SHA-256 of the tar.
        index: one entry per sample, in the order of the tar.
        skipped: inputs of this shard that gave no sample.
    """

    format: str = FORMAT
    version: int = VERSION
    shard: TarName
    configuration: str
    fingerprint: str
    samples: Count
    matches: Count
    bytes: Count
    sha256: Hexadecimal
    index: list[IndexEntry]
    skipped: list[SkippedInput]


# A dataset may have a million shards: a model would take four times the memory.
@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class ShardEntry:
    """One row of the manifest's shard table.

    ``fingerprint`` and the two sizes let a rerun check with one listing that a dataset is complete.
    Older manifests do not have them.
    """

    name: TarName
    samples: Count
    matches: Count
    bytes: Count
    sha256: Hexadecimal
    sidecar_sha256: Hexadecimal
    sidecar_bytes: Count = 0
    fingerprint: str = ""


class FinishedShard(_Record):
    """A shard: its row in the manifest, its configuration, its samples, and its skipped inputs."""

    entry: ShardEntry
    configuration: str
    index: list[IndexEntry]
    skipped: list[SkippedInput]


class Totals(_Record):
    """Sums over the shards; ``skipped`` counts inputs by reason."""

    shards: int
    samples: int
    matches: int
    bytes: int
    skipped: dict[str, int]


class Manifest(_Record):
    """The manifest of a dataset. It is published last.

    ``skipped`` lists the first ``LISTED_SKIPPED`` inputs without a sample; ``skipped.parquet``
    lists all.
    """

    format: str = FORMAT
    version: int = VERSION
    configuration: dict[str, Any]
    totals: Totals
    shards: list[ShardEntry]
    skipped: list[SkippedInput]


def shorten(name: str, longest: int, identity: str = "") -> str:
    """A name of at most ``longest`` bytes; a longer one is cut and begins with a digest.

    Args:
        name: the name.
        longest: number of bytes.
        identity: what the digest is of; default the name.
    """
    data = name.encode()
    if len(data) <= longest:
        return name
    start = hashlib.sha256((identity or name).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{start}-{data[len(start) + 1 - longest :].decode(errors='ignore')}"


def shard_name(split: str, index: int) -> str:
    """File name of shard ``index`` of ``split``."""
    return f"{split}-{index:06d}.tar"


def sidecar_name(tar: str) -> str:
    """File name of the sidecar of a tar."""
    return tar.removesuffix(".tar") + ".json"


def to_json(record: BaseModel) -> str:
    """Formats a model as indented JSON with sorted keys; equal models give equal bytes."""
    return json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``, hexadecimal."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_sidecar_bytes(store: Store, tar: str) -> bytes:
    """Reads the sidecar of a tar, without parsing it.

    Raises:
        UserError: the sidecar is missing.
    """
    name = sidecar_name(tar)
    try:
        return store.read(name)
    except FileNotFoundError:
        raise UserError(f"{store.uri}/{name}: missing; run `ucn preprocess` again") from None


def parse_sidecar(store: Store, tar: str, data: bytes) -> Sidecar:
    """Parses the sidecar of a tar.

    Raises:
        UserError: not a sidecar.
    """
    return _parse(store, sidecar_name(tar), data, Sidecar, "sidecar")


def read_manifest(store: Store) -> Manifest:
    """Reads the manifest of a dataset.

    Raises:
        UserError: the manifest is missing, invalid, or of another format version.
    """
    return parse_manifest(store, read_manifest_bytes(store))


def read_manifest_bytes(store: Store) -> bytes:
    """Reads the manifest of a dataset, without parsing it.

    Raises:
        UserError: the manifest is missing.
    """
    try:
        return store.read(MANIFEST)
    except FileNotFoundError:
        names = store.sizes()
    if any(name.endswith(".tar") for name in names):
        raise UserError(
            f"{store.uri}/{MANIFEST}: missing, preprocessing has not finished; run it again to "
            "resume"
        )
    raise UserError(f"{store.uri}: no such folder of shards; make one with `ucn preprocess`")


def parse_manifest(store: Store, data: bytes) -> Manifest:
    """Parses a manifest.

    Raises:
        UserError: not a manifest, or of another format version.
    """
    manifest = _parse(store, MANIFEST, data, Manifest, "manifest of shards")
    if (manifest.format, manifest.version) != (FORMAT, VERSION):
        raise UserError(
            f"{store.uri}/{MANIFEST}: format {manifest.format} {manifest.version}, expected "
            f"{FORMAT} {VERSION}; make the shards again"
        )
    return manifest


def _parse(store: Store, name: str, data: bytes, record: type[T], what: str) -> T:
    try:
        return record.model_validate_json(data)
    except (ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"{store.uri}/{name}: not a {what} ({first}); delete it and run `ucn preprocess` again"
        ) from error
