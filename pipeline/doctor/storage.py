"""Storage: inputs can be read; in outputs a file can be made, read and deleted."""

import os
import socket
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path

from ucn.errors import UserError
from ucn.pipeline.doctor.disk import existing_parent
from ucn.pipeline.doctor.finding import Finding
from ucn.pipeline.doctor.ray_cluster import host_and_port
from ucn.pipeline.places import Place
from ucn.preprocessing.shards.format import MANIFEST
from ucn.storage.addresses import redact
from ucn.storage.files import TEMPORARY_PREFIX
from ucn.storage.stores import LocalStore, Store, absolute_uri, open_store, write_bytes

_CONNECT_S = 5.0


def look_at_place(place: Place) -> list[Finding]:
    """Whether a place can be used as the configuration wants to.

    Raises:
        UserError: a store cannot be reached or refuses.
    """
    uri = absolute_uri(place.uri)
    is_local = "://" not in uri
    if place.role == "input":
        if is_local:
            return [_look_at_local_input(place, Path(uri))]
        return [judge_files(place, uri, open_store(uri).sizes())]
    store = LocalStore(str(existing_parent(Path(uri)))) if is_local else open_store(uri)
    try_to_write(store)
    return [Finding(place.option, "ok", f"{redact(uri)} can be written")]


def look_at_endpoint(environment: Mapping[str, str]) -> list[Finding]:
    """Whether an S3 server of one's own answers: the stores themselves try for long."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if not (uri := environment.get(name)):
            continue
        text = f"{name}={redact(uri)}"
        host, port = host_and_port(uri)
        port = port or (443 if uri.startswith("https:") else 80)
        try:
            socket.create_connection((host or "", port), _CONNECT_S).close()
        except OSError:
            remedy = "start the server, or correct the address"
            return [Finding("s3 endpoint", "problem", f"{text}: cannot be reached", remedy)]
        return [Finding("s3 endpoint", "ok", f"{text} answers")]
    return [Finding("s3 endpoint", "ok", "that of AWS; AWS_ENDPOINT_URL is not set")]


def try_to_write(store: Store) -> None:
    """Make, read and delete a small file.

    Raises:
        UserError: one of them is refused, or does not give what was written.
    """
    # A killed run's leftovers have such names, and are swept.
    name, data = f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}-ucn-doctor", b"ucn doctor"
    write_bytes(store, name, data)
    try:
        if store.read(name) != data:
            raise UserError(f"{store.uri}: gives other bytes than were written; use another store")
    except FileNotFoundError:
        raise UserError(f"{store.uri}: does not keep what is written; use another store") from None
    finally:
        store.delete(name)


def _look_at_local_input(place: Place, path: Path) -> Finding:
    if not path.exists():
        remedy = f"correct {place.option}, or mount it"
        return Finding(place.option, "problem", f"{path}: is not there", remedy)
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        remedy = "mend its permissions (chmod)"
        return Finding(place.option, "problem", f"{path}: cannot be read", remedy)
    return judge_files(place, str(path), os.listdir(path) if path.is_dir() else [path.name])


def judge_files(place: Place, uri: str, names: Collection[str]) -> Finding:
    """Whether what an input holds is what is expected there."""
    if not names:
        return Finding(place.option, "problem", f"{uri}: holds nothing", f"correct {place.option}")
    if place.option.endswith("shards") and MANIFEST not in names:
        remedy = "correct the address, or finish `ucn preprocess`"
        return Finding(place.option, "problem", f"{uri}: holds no finished shards", remedy)
    return Finding(place.option, "ok", f"{uri} can be read, {len(names)} entries")
