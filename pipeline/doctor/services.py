"""Servers that a stage uses: the S3 endpoint, and MLflow or its database."""

import os
import sqlite3
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import requests

from ucn.pipeline.doctor.findings import Finding
from ucn.pipeline.doctor.machine import existing_parent
from ucn.storage.addresses import CONNECT_S, DEFAULT_PORTS, connection_error, redact

_USE_SERVER = "use an MLflow server: tracking.uri=http://SERVER:5000"


def check_s3_endpoint(environment: Mapping[str, str]) -> list[Finding]:
    """Whether the S3 server of AWS_ENDPOINT_URL accepts connections."""
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if uri := environment.get(variable):
            text, remedy = f"{variable}={redact(uri)}", "start the server, or correct the address"
            if reason := connection_error(uri):
                text += f": no connection ({reason})"
                return [Finding("s3 endpoint", "problem", text, remedy)]
            return [Finding("s3 endpoint", "ok", f"{text} answers")]
    return [Finding("s3 endpoint", "ok", "Amazon's; AWS_ENDPOINT_URL is not set")]


def check_mlflow(uri: str, environment: Mapping[str, str]) -> list[Finding]:
    """Whether MLflow can record runs at a tracking URI."""
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme in ("http", "https"):
        return [_check_server(uri, environment)]
    if scheme == "sqlite":
        return [judge_sqlite(Path(uri.partition("///")[2]), environment.get("RAY_ADDRESS"))]
    place = redact(uri)
    if scheme not in DEFAULT_PORTS or "://" not in uri:
        remedy = "set tracking.uri to sqlite:///FILE or http://SERVER:5000"
        return [Finding("mlflow", "problem", f"{place}: not a tracking URI", remedy)]
    if reason := connection_error(uri):
        text, remedy = f"{place}: no connection ({reason})", "start it, or correct tracking.uri"
        return [Finding("mlflow", "problem", text, remedy)]
    text = f"{place} answers, but every node needs its password"
    return [Finding("mlflow", "warning", text, _USE_SERVER)]


def judge_sqlite(path: Path, ray_address: str | None) -> Finding:
    """Whether all processes can read and write a database file, which need not exist."""
    path = path.expanduser().absolute()
    if path.exists():
        try:
            connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2)
            try:
                connection.execute("PRAGMA schema_version").fetchone()
            finally:
                connection.close()
        except sqlite3.Error as error:
            remedy = "set tracking.uri to another file, or repair this one"
            return Finding("mlflow", "problem", f"{path}: not readable ({error})", remedy)
    # SQLite also writes files beside the database.
    folder = existing_parent(path.parent)
    if not all(os.access(part, os.W_OK) for part in (folder, path) if part.exists()):
        return Finding("mlflow", "problem", f"{path}: not writable", "choose another tracking.uri")
    if ray_address:
        text = f"{path}: not visible to the other machines of the cluster"
        return Finding("mlflow", "warning", text, _USE_SERVER)
    return Finding("mlflow", "ok", f"{path}{'' if path.exists() else ' (created on first use)'}")


def _check_server(uri: str, environment: Mapping[str, str]) -> Finding:
    place, ours = redact(uri), version("mlflow")
    with requests.Session() as session:
        if user := environment.get("MLFLOW_TRACKING_USERNAME"):
            session.auth = (user, environment.get("MLFLOW_TRACKING_PASSWORD", ""))
        elif token := environment.get("MLFLOW_TRACKING_TOKEN"):
            session.headers["Authorization"] = f"Bearer {token}"
        base = uri.rstrip("/")
        experiments = f"{base}/api/2.0/mlflow/experiments/search?max_results=1"
        try:
            answer = session.get(experiments, timeout=CONNECT_S)
            about = session.get(f"{base}/version", timeout=CONNECT_S)
        except requests.exceptions.SSLError:
            remedy = "set REQUESTS_CA_BUNDLE to the certificate of its authority"
            return Finding("mlflow", "problem", f"{place}: certificate not trusted", remedy)
        except requests.RequestException as error:
            reason = "no answer in time" if isinstance(error, requests.Timeout) else "no connection"
            remedy = "start the server, or correct tracking.uri"
            return Finding("mlflow", "problem", f"{place}: {reason}", remedy)
    if answer.status_code in (401, 403):
        remedy = (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and add this host to the "
            "server's --allowed-hosts"
        )
        return Finding("mlflow", "problem", f"{place}: denies access", remedy)
    if answer.status_code != 200:
        remedy = "correct tracking.uri, or see the server's log"
        return Finding("mlflow", "problem", f"{place}: answers {answer.status_code}", remedy)
    theirs = about.text.strip() if about.ok and len(about.text) < 30 else ""
    if theirs and theirs.split(".")[:2] != ours.split(".")[:2]:
        text = f"{place}: the server has MLflow {theirs}, this machine has {ours}"
        return Finding("mlflow", "warning", text, "run the server from the same image")
    return Finding("mlflow", "ok", f"{place} answers" + (f", version {theirs}" if theirs else ""))
