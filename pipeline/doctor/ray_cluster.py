"""The Ray cluster: address, token, dashboard and nodes."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ucn.cluster.session import head_error
from ucn.errors import UserError
from ucn.pipeline.cluster.client import (
    API_SERVER,
    AUTH_MODE,
    COPY_TOKEN,
    RAY_ADDRESS,
    TOKEN,
    JobsClient,
    dashboard_address,
    find_token,
)
from ucn.pipeline.doctor.findings import Finding

# Less than the time limit of all checks; Ray itself retries for longer.
_NODES_S = 25.0
_NODES = """
import json, sys
address = sys.argv[1]
if address.startswith("http"):
    from ray.util.state import list_nodes
    nodes = [(node.state == "ALIVE", node.resources_total) for node in list_nodes(limit=10_000)]
else:
    import ray
    ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    nodes = [(node["Alive"], node["Resources"]) for node in ray.nodes()]
print(json.dumps(nodes))
"""

Nodes = Sequence[tuple[bool, Mapping[str, float]]]
"""Of each node: whether it is alive, and its resources."""


def check_ray(environment: Mapping[str, str], home: Path, dashboard: str | None) -> list[Finding]:
    """The cluster of RAY_ADDRESS and its nodes, Ray's token, and a dashboard if one is given."""
    address = environment.get(RAY_ADDRESS, "")
    dashboard = dashboard or environment.get(API_SERVER)
    joins = address not in ("", "local")
    token = judge_token(environment, home, is_cluster=joins or bool(dashboard), joins=joins)
    if joins:
        head, *nodes = check_head(address)
    else:
        text = f"{RAY_ADDRESS} is not set: commands start a local Ray"
        head, nodes = Finding("ray address", "ok", text), []
    findings = [head, token]
    if dashboard:
        findings += check_dashboard(dashboard_address(dashboard, environment), not joins)
    return findings + nodes


def judge_token(
    environment: Mapping[str, str], home: Path, *, is_cluster: bool, joins: bool
) -> Finding:
    """Whether Ray's token exists, is sent, and is readable by its owner only.

    Args:
        environment: of this process.
        home: of the user.
        is_cluster: whether a cluster is used, by RAY_ADDRESS or a dashboard.
        joins: whether commands join a cluster by RAY_ADDRESS.
    """
    name, mode = "ray token", environment.get(AUTH_MODE)
    source, token = find_token(environment, home)
    if mode is not None and mode.lower() != "token":
        text = f"{AUTH_MODE}={mode}: everyone who reaches Ray's ports can run code"
        if is_cluster:
            return Finding(name, "warning", text, f"start the cluster with {AUTH_MODE}=token")
        return Finding(name, "ok", text)
    if not token:
        if mode is None and not is_cluster:
            return Finding(name, "ok", f"none in {source}; a local Ray creates one")
        return Finding(name, "problem", f"none in {source}", COPY_TOKEN)
    if source != TOKEN and Path(source).stat().st_mode & 0o077:
        text = f"{source} is readable by other users"
        return Finding(name, "warning", text, f"chmod 600 {source}")
    text = f"in {'the variable ' if source == TOKEN else ''}{source}"
    if mode is None and joins:
        # Ray's drivers send no token then; `ucn submit` does.
        text += f", but {AUTH_MODE} is not set: commands join without it"
        return Finding(name, "warning", text, f"export {AUTH_MODE}=token")
    return Finding(name, "ok", f"{text}, {AUTH_MODE}={mode or 'not set'}")


def check_head(address: str) -> list[Finding]:
    """Joins the cluster at RAY_ADDRESS, and lists its nodes."""
    name, text = "ray address", f"{RAY_ADDRESS}={address}"
    if address.startswith(("http://", "https://")):
        remedy = f"set it to HEAD:6379; {API_SERVER} is for the dashboard"
        return [Finding(name, "problem", f"{text}: is the address of a dashboard", remedy)]
    if reason := head_error(address):
        remedy = "start the cluster, set it to its HOST:6379, or unset it for a local Ray"
        return [Finding(name, "problem", f"{text}: no connection ({reason})", remedy)]
    if (nodes := list_nodes(address)) is None:
        remedy = (
            f"check {AUTH_MODE} and the token, and that `ray start --address` has made this "
            "machine a node; use `ucn submit` from other machines"
        )
        return [Finding(name, "problem", f"{text}: this machine cannot join", remedy)]
    return [Finding(name, "ok", f"{text}, joined"), judge_nodes(nodes)]


def check_dashboard(address: str, lists_nodes: bool) -> list[Finding]:
    """Whether a dashboard accepts this machine's token and version of Ray, and its nodes."""
    try:
        JobsClient(address)
    except UserError as error:
        return [Finding("ray dashboard", "problem", str(error))]
    findings = [Finding("ray dashboard", "ok", f"{address} accepts jobs")]
    if lists_nodes:
        nodes = list_nodes(address)
        text, remedy = f"{address} does not list them", "see the dashboard's log on the head"
        missing = Finding("ray nodes", "warning", text, remedy)
        findings.append(missing if nodes is None else judge_nodes(nodes))
    return findings


def list_nodes(address: str) -> Nodes | None:
    """Lists a cluster's nodes, as its driver or from ``http://`` its dashboard; None on failure."""
    environment = dict(os.environ)
    if address.startswith("http"):
        # Ray's State API prefers the environment's address, and sends a token only in this mode.
        environment[API_SERVER] = address
        if find_token(environment, Path.home())[1]:
            environment.setdefault(AUTH_MODE, "token")
    # In a process, which can be ended.
    command = [sys.executable, "-c", _NODES, address]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_NODES_S, check=True, env=environment
        )
        found: Nodes = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return found


def judge_nodes(nodes: Nodes) -> Finding:
    """Whether a cluster has CPUs."""
    alive = [resources for is_alive, resources in nodes if is_alive]
    cpus, gpus = (sum(int(one.get(kind, 0)) for one in alive) for kind in ("CPU", "GPU"))
    text = f"{len(alive)}, with {cpus} CPUs and {gpus or 'no'} GPUs together"
    if lost := len(nodes) - len(alive):
        text += f"; {lost} gone since the head started"
    if not cpus:
        return Finding("ray nodes", "problem", text, "start a node: ray start --address HEAD:6379")
    return Finding("ray nodes", "ok", text)
