"""The shard format: names, versions, and the dataclasses of sidecar and manifest.

A dataset is a folder of WebDataset tars ``SPLIT-000000.tar``, each with a sidecar
``SPLIT-000000.json`` that commits it, and one ``manifest.json``. docs/formats.md describes it all.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from preprocessing.errors import UserError

FORMAT = "ucn-shards"
VERSION = 1
MANIFEST = "manifest.json"

T = TypeVar("T", bound=BaseModel)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SkippedInput(_Record):
    """An input that gave no sample."""

    key: str
    reason: str
    detail: str = ""


class IndexEntry(_Record):
    """Where one sample lies in its tar: (byte offset, size) of each member, by suffix."""

    key: str
    sequence: str
    matches: int
    members: dict[str, tuple[int, int]]


class Sidecar(_Record):
    """The commit marker of one tar; present only when the tar is whole.

    Attributes:
        shard: file name of the tar.
        configuration: digest of the dataset's configuration.
        fingerprint: digest of the configuration and of the inputs of this shard.
        samples: number of samples.
        matches: number of correspondences over all samples.
        bytes: size of the tar.
        sha256: of the tar.
        index: one entry a sample, in the order of the tar.
        skipped: inputs of this shard that gave no sample.
    """

    format: str = FORMAT
    version: int = VERSION
    shard: str
    configuration: str
    fingerprint: str
    samples: int
    matches: int
    bytes: int
    sha256: str
    index: list[IndexEntry]
    skipped: list[SkippedInput]


class ShardEntry(_Record):
    """One row of the manifest's shard table."""

    name: str
    samples: int
    matches: int
    bytes: int
    sha256: str
    sidecar_sha256: str


class Totals(_Record):
    """Sums over the shards; ``skipped`` counts by reason."""

    shards: int
    samples: int
    matches: int
    bytes: int
    skipped: dict[str, int]


class Manifest(_Record):
    """The whole dataset, published last."""

    format: str = FORMAT
    version: int = VERSION
    configuration: dict[str, Any]
    totals: Totals
    shards: list[ShardEntry]
    skipped: list[SkippedInput]


def shard_name(split: str, index: int) -> str:
    """File name of shard ``index`` of ``split``."""
    return f"{split}-{index:06d}.tar"


def sidecar_path(tar: Path) -> Path:
    """The sidecar beside a tar."""
    return tar.with_suffix(".json")


def to_json(record: BaseModel) -> str:
    """Readable JSON with sorted keys: equal records give equal bytes."""
    return json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of ``value``, hexadecimal."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_sidecar(path: Path) -> Sidecar:
    """Read a sidecar.

    Raises:
        UserError: missing, or not a sidecar.
    """
    return _read(path, Sidecar, "sidecar")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a dataset.

    Raises:
        UserError: missing, not a manifest, or of another format version.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of shards; make one with `ucn preprocess`")
    path = folder / MANIFEST
    if not path.exists() and any(folder.glob("*.tar")):
        raise UserError(f"{path}: missing, preprocessing has not finished; run it again to resume")
    manifest = _read(path, Manifest, "manifest of shards")
    if (manifest.format, manifest.version) != (FORMAT, VERSION):
        raise UserError(
            f"{path}: format {manifest.format} {manifest.version}, expected {FORMAT} {VERSION}; "
            "make the shards again"
        )
    return manifest


def _read(path: Path, record: type[T], what: str) -> T:
    try:
        return record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run `ucn preprocess` again") from None
    except (ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: not a {what} ({first}); run `ucn preprocess` again") from error
