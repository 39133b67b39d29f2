"""Storage locations: inputs are readable, outputs are writable."""

import os
import uuid
from collections.abc import Collection
from pathlib import Path

from ucn.errors import UserError
from ucn.pipeline.doctor.findings import Finding
from ucn.pipeline.doctor.machine import existing_parent
from ucn.pipeline.locations import Location
from ucn.preprocessing.shards.format import MANIFEST
from ucn.storage.addresses import redact
from ucn.storage.files import TEMPORARY_PREFIX
from ucn.storage.stores import LocalStore, Store, absolute_uri, open_store, write_bytes


def check_location(location: Location) -> list[Finding]:
    """Reads an input, or writes a small file to an output.

    Raises:
        UserError: a store does not answer or refuses.
    """
    option, uri = location.option, absolute_uri(location.uri)
    is_local = "://" not in uri
    if location.role != "input":
        _write_and_read(
            LocalStore(str(existing_parent(Path(uri)))) if is_local else open_store(uri)
        )
        return [Finding(option, "ok", f"{redact(uri)} is writable")]
    if not is_local:
        return [judge_files(option, uri, open_store(uri).sizes())]
    path = Path(uri)
    if not path.exists():
        return [Finding(option, "problem", f"{path}: not found", f"correct {option}, or mount it")]
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        return [Finding(option, "problem", f"{path}: not readable", "change its mode (chmod)")]
    return [judge_files(option, uri, os.listdir(path) if path.is_dir() else [path.name])]


def judge_files(option: str, uri: str, names: Collection[str]) -> Finding:
    """Whether an input has files, and a folder of shards its manifest."""
    if not names:
        return Finding(option, "problem", f"{uri}: empty", f"correct {option}")
    if option.endswith("shards") and MANIFEST not in names:
        remedy = "correct the address, or finish `ucn preprocess`"
        return Finding(option, "problem", f"{uri}: no complete shards ({MANIFEST})", remedy)
    return Finding(option, "ok", f"{uri} is readable, {len(names)} entries")


def _write_and_read(store: Store) -> None:
    # Temporary files of killed processes have such names, and are deleted by later ones.
    name, data = f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}-ucn-doctor", b"ucn doctor"
    write_bytes(store, name, data)
    try:
        is_kept = store.read(name) == data
    except FileNotFoundError:
        is_kept = False
    finally:
        store.delete(name)
    if not is_kept:
        raise UserError(f"{store.uri}: does not return what was written; use another store")
