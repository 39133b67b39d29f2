"""MLflow: whether the tracking URI can be used."""

import os
import socket
import sqlite3
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import requests

from ucn.pipeline.doctor.disk import existing_parent
from ucn.pipeline.doctor.finding import Finding
from ucn.pipeline.doctor.ray_cluster import host_and_port
from ucn.storage.addresses import redact

_NAME = "mlflow"
_TIMEOUT_S = 5.0
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_OVER_HTTP = "use an MLflow server instead: tracking.uri=http://SERVER:5000"


def look_at_tracking(uri: str, environment: Mapping[str, str]) -> list[Finding]:
    """Whether MLflow can keep runs at a tracking URI."""
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme in ("http", "https"):
        return [_look_at_server(uri, environment)]
    if scheme == "sqlite":
        return [judge_sqlite(Path(uri.partition("///")[2]), environment.get("RAY_ADDRESS"))]
    if scheme in _DATABASE_PORTS and "://" in uri:
        return [_look_at_database(uri, _DATABASE_PORTS[scheme])]
    remedy = "set tracking.uri to sqlite:///FILE or http://SERVER:5000"
    return [Finding(_NAME, "problem", f"{redact(uri)}: MLflow keeps no runs there", remedy)]


def judge_sqlite(path: Path, ray_address: str | None) -> Finding:
    """Whether a database file can be read and written, and every process sees it.

    Args:
        path: of the file, which need not exist.
        ray_address: the cluster that is joined, if any.
    """
    path = path.expanduser().absolute()
    if path.exists():
        try:
            connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2)
            try:
                connection.execute("PRAGMA schema_version").fetchone()
            finally:
                connection.close()
        except sqlite3.Error as error:
            remedy = "name another file in tracking.uri, or mend this one"
            return Finding(_NAME, "problem", f"{path}: cannot be read ({error})", remedy)
    # SQLite writes files of its own beside the database.
    folder = existing_parent(path.parent)
    target = path if path.exists() else folder
    if not (os.access(target, os.W_OK) and os.access(folder, os.W_OK)):
        return Finding(
            _NAME, "problem", f"{path}: cannot be written", "choose another tracking.uri"
        )
    if ray_address:
        return Finding(
            _NAME, "warning", f"{path}: other machines of the cluster do not see it", _OVER_HTTP
        )
    return Finding(_NAME, "ok", f"{path}{'' if path.exists() else ' (made when first used)'}")


def judge_answer(uri: str, status: int, theirs: str | None) -> Finding:
    """What a server's answer means.

    Args:
        uri: of the server.
        status: HTTP's, of a request for its experiments.
        theirs: version that it tells; None where it tells none.
    """
    place = redact(uri)
    if status in (401, 403):
        return Finding(
            _NAME,
            "problem",
            f"{place}: refuses ({status})",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and name this host in the "
            "server's --allowed-hosts",
        )
    if status != 200:
        remedy = "give the server's address; see the server's log"
        return Finding(_NAME, "problem", f"{place}: answers {status}", remedy)
    ours = version("mlflow")
    if theirs is not None and theirs.split(".")[:2] != ours.split(".")[:2]:
        return Finding(
            _NAME,
            "warning",
            f"{place}: the server has MLflow {theirs}, this is {ours}",
            "run the server from the same image",
        )
    return Finding(_NAME, "ok", f"{place} answers" + (f", version {theirs}" if theirs else ""))


def _look_at_server(uri: str, environment: Mapping[str, str]) -> Finding:
    base = uri.rstrip("/")
    user = environment.get("MLFLOW_TRACKING_USERNAME")
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    login = (user, environment.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None
    headers = {"Authorization": f"Bearer {token}"} if token and not login else {}
    try:
        answer = requests.get(
            f"{base}/api/2.0/mlflow/experiments/search",
            params={"max_results": "1"},
            auth=login,
            headers=headers,
            timeout=_TIMEOUT_S,
        )
        theirs = requests.get(f"{base}/version", auth=login, headers=headers, timeout=_TIMEOUT_S)
    except requests.exceptions.SSLError:
        remedy = "set REQUESTS_CA_BUNDLE to the authority's certificate"
        return Finding(_NAME, "problem", f"{redact(uri)}: its certificate is not trusted", remedy)
    except requests.RequestException as error:
        why = "no answer in time" if isinstance(error, requests.Timeout) else "cannot be reached"
        return Finding(
            _NAME, "problem", f"{redact(uri)}: {why}", "start the server, or correct tracking.uri"
        )
    told = theirs.text.strip() if theirs.ok and len(theirs.text) < 30 else None
    return judge_answer(uri, answer.status_code, told)


def _look_at_database(uri: str, default_port: int) -> Finding:
    host, port = host_and_port(uri)
    try:
        socket.create_connection((host or "localhost", port or default_port), _TIMEOUT_S).close()
    except OSError:
        return Finding(
            _NAME,
            "problem",
            f"{redact(uri)}: cannot be reached",
            "start it, or correct tracking.uri",
        )
    return Finding(
        _NAME,
        "warning",
        f"{redact(uri)} answers, but every node needs its password",
        _OVER_HTTP,
    )
