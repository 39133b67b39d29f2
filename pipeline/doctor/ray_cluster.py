"""Ray: which cluster is joined, by which token, and whether it answers."""

import json
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ucn.errors import UserError
from ucn.pipeline.cluster.address import dashboard_address
from ucn.pipeline.cluster.token import MODE, TOKEN, TokenPlace, find_token
from ucn.pipeline.doctor.finding import Finding

_CONNECT_S = 5.0
_LOCAL = ("", "local")
# Below the time of a probe; Ray itself tries for longer.
_JOIN_S = 25.0
_JOIN = """
import json, sys
import ray
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
nodes = [
    {"state": "ALIVE" if node["Alive"] else "DEAD", "resources_total": node["Resources"]}
    for node in ray.nodes()
]
print(json.dumps(nodes))
"""


def look_at_ray(environment: Mapping[str, str], home: Path, address: str | None) -> list[Finding]:
    """The cluster that drivers join, its token, and the dashboard that takes jobs.

    Args:
        environment: of this process.
        home: of the user.
        address: of a dashboard, where the user names one.
    """
    joined = environment.get("RAY_ADDRESS", "")
    joins = joined not in _LOCAL
    token = judge_token(
        environment.get(MODE),
        find_token(environment, home),
        is_cluster=joins or address is not None,
        joins=joins,
    )
    if not joins:
        text = "RAY_ADDRESS names no cluster: a command starts a Ray of its own"
        findings = [Finding("ray address", "ok", text), token]
        return findings if address is None else findings + look_at_dashboard(address, environment)
    head = look_at_head(joined)
    return [head[0], token, *look_at_dashboard(address, environment), *head[1:]]


def ray_folder(environment: Mapping[str, str]) -> Path:
    """Where Ray keeps its sessions, and spills objects to."""
    return Path(environment.get("RAY_TMPDIR") or environment.get("TMPDIR") or "/tmp") / "ray"


def judge_token(
    mode: str | None, place: TokenPlace, *, is_cluster: bool, joins: bool = False
) -> Finding:
    """Whether Ray's token is there, is sent, and nobody else can read it.

    Args:
        mode: value of ``RAY_AUTH_MODE``; None where it is not set.
        place: where the token is looked for.
        is_cluster: whether there is a cluster of several machines.
        joins: whether commands join it, by ``RAY_ADDRESS``.
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
    if mode is None and joins:
        # Ray's own drivers then join without it; `ucn submit` and `ray start` find it.
        text = f"{where}, but {MODE} is not set: who joins by RAY_ADDRESS does not send it"
        return Finding(name, "warning", text, f"export {MODE}=token")
    return Finding(name, "ok", f"{where}, {MODE}={mode or 'not set (found by itself)'}")


def look_at_head(address: str) -> list[Finding]:
    """Whether commands can join a cluster, by joining it; and its nodes.

    Args:
        address: ``RAY_ADDRESS``.
    """
    name, text = "ray address", f"RAY_ADDRESS={address}"
    if address.startswith(("http://", "https://")):
        remedy = "set it to HEAD:6379; the dashboard is for RAY_API_SERVER_ADDRESS"
        return [Finding(name, "problem", f"{text}: is no address to join by", remedy)]
    why = None if address == "auto" else _connection_error(address)
    if why is not None:
        remedy = "start the cluster, set it to its HOST:6379, or unset it for a local Ray"
        return [Finding(name, "problem", f"{text}: cannot be reached ({why})", remedy)]
    nodes = nodes_by_joining(address)
    if nodes is None:
        remedy = (
            "check RAY_AUTH_MODE and the token, and that `ray start --address` has made this "
            "machine a node; from others use `ucn submit`"
        )
        return [Finding(name, "problem", f"{text}: does not let this machine join", remedy)]
    return [Finding(name, "ok", f"{text}, joined"), judge_nodes(nodes)]


def nodes_by_joining(address: str) -> list[dict[str, Any]] | None:
    """The nodes of a cluster, as its dashboard would tell them; None if it cannot be joined."""
    # In a process of its own, which can be ended: Ray tries for minutes.
    join = [sys.executable, "-c", _JOIN, address]
    try:
        done = subprocess.run(join, capture_output=True, text=True, timeout=_JOIN_S, check=True)
        found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return found


def look_at_dashboard(given: str | None, environment: Mapping[str, str]) -> list[Finding]:
    """Whether the dashboard takes our token and has our version of Ray; and the nodes.

    Args:
        given: address by the user; None takes the one that belongs to ``RAY_ADDRESS``, which need
            not be reached from here, and does not tell the nodes again.
        environment: of this process.
    """
    from ucn.pipeline.cluster.client import JobsClient, JobsError

    name = "ray dashboard"
    address = dashboard_address(given, environment)
    if given is None and _connection_error(address) is not None:
        text = f"{address} does not answer this machine; only `ucn submit` needs it"
        return [Finding(name, "ok", f"{text}, on the head or through ssh -L")]
    try:
        client = JobsClient(address)
    except UserError as error:
        return [Finding(name, "problem", str(error))]
    found = Finding(name, "ok", f"{address} answers, and takes jobs")
    if environment.get("RAY_ADDRESS", "") not in _LOCAL:
        return [found]
    try:
        return [found, judge_nodes(client.nodes())]
    except JobsError as error:
        return [found, Finding("ray nodes", "warning", f"{address}: does not tell them ({error})")]


def judge_nodes(nodes: Sequence[Mapping[str, Any]]) -> Finding:
    """What a cluster can work with.

    Args:
        nodes: Ray's states of nodes, with ``state`` and ``resources_total``.
    """
    alive = [node for node in nodes if node.get("state") == "ALIVE"]
    cpus, gpus = (
        sum(int((node.get("resources_total") or {}).get(kind, 0)) for node in alive)
        for kind in ("CPU", "GPU")
    )
    text = f"{len(alive)}, with {cpus} CPUs and {gpus or 'no'} GPUs together"
    if lost := len(nodes) - len(alive):
        text += f"; {lost} gone since the head started"
    if not cpus:
        remedy = "start a node: ray start --address HEAD:6379"
        return Finding("ray nodes", "problem", f"{text}: nothing can run", remedy)
    return Finding("ray nodes", "ok", text)


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
