"""Ray: which cluster is joined, by which token, and whether it answers."""

import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.cluster.address import dashboard_address
from pipeline.cluster.token import MODE, TOKEN, TokenPlace, find_token
from pipeline.doctor.finding import Finding
from preprocessing.errors import UserError

_CONNECT_S = 5.0
_LOCAL = ("", "local")


def look_at_ray(environment: Mapping[str, str], home: Path, address: str | None) -> list[Finding]:
    """The cluster that drivers join, its token, and the dashboard that takes jobs.

    Args:
        environment: of this process.
        home: of the user.
        address: of a dashboard, where the user names one.
    """
    joined = environment.get("RAY_ADDRESS", "")
    is_cluster = joined not in _LOCAL or address is not None
    mode = environment.get(MODE)
    findings = [judge_token(mode, find_token(environment, home), is_cluster=is_cluster)]
    if joined in _LOCAL:
        text = "RAY_ADDRESS names no cluster: a command starts a Ray of its own"
        findings.insert(0, Finding("ray address", "ok", text))
    elif joined != "auto":
        findings.insert(0, look_at_head(joined))
    if is_cluster:
        findings.append(look_at_dashboard(dashboard_address(address, environment)))
    return findings


def ray_folder(environment: Mapping[str, str]) -> Path:
    """Where Ray keeps its sessions, and spills objects to."""
    return Path(environment.get("RAY_TMPDIR") or environment.get("TMPDIR") or "/tmp") / "ray"


def judge_token(mode: str | None, place: TokenPlace, *, is_cluster: bool) -> Finding:
    """Whether Ray's token is there and nobody else can read it.

    Args:
        mode: value of ``RAY_AUTH_MODE``; None where it is not set.
        place: where the token is looked for.
        is_cluster: whether a cluster of several machines is joined.
    """
    name = "ray token"
    if mode is not None and mode.lower() != "token":
        text = f"{MODE}={mode}: whoever reaches Ray's ports runs code there"
        if is_cluster:
            return Finding(name, "warning", text, f"start the cluster with {MODE}=token")
        return Finding(name, "ok", text)
    if not place.present:
        if mode is None and not is_cluster:
            return Finding(name, "ok", f"none in {place.name}; a local Ray makes its own")
        return Finding(
            name,
            "problem",
            f"none in {place.name}",
            "put there what `ray get-auth-token` prints on the cluster's head node",
        )
    if place.mode is not None and place.mode & 0o077:
        return Finding(
            name,
            "warning",
            f"{place.name} can be read by other users (mode {place.mode:04o})",
            f"chmod 600 {place.name}",
        )
    where = f"in {place.name}" if place.name != TOKEN else f"in the variable {TOKEN}"
    return Finding(name, "ok", f"{where}, {MODE}={mode or 'not set (found by itself)'}")


def look_at_head(address: str) -> Finding:
    """Whether something listens where drivers join."""
    name = "ray address"
    why = _connection_error(address)
    if why is not None:
        return Finding(
            name,
            "problem",
            f"RAY_ADDRESS={address}: cannot be reached ({why})",
            "start the cluster, set it to its HOST:6379, or unset it for a local Ray",
        )
    return Finding(name, "ok", f"RAY_ADDRESS={address} answers")


def look_at_dashboard(address: str) -> Finding:
    """Whether the dashboard takes our token and has our version of Ray."""
    from pipeline.cluster.client import JobsClient

    name = "ray dashboard"
    try:
        JobsClient(address)
    except UserError as error:
        return Finding(name, "problem", str(error))
    return Finding(name, "ok", f"{address} answers, and takes jobs")


def _connection_error(address: str) -> str | None:
    """Why nothing listens at an address; None where something does."""
    host, port = host_and_port(address)
    if host is None or port is None:
        return "is no HOST:PORT"
    try:
        socket.create_connection((host, port), _CONNECT_S).close()
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def host_and_port(address: str) -> tuple[str | None, int | None]:
    """The parts of ``HOST:PORT`` or ``SCHEME://HOST:PORT``; None for what is missing or wrong."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        return parts.hostname, parts.port
    except ValueError:
        return None, None
