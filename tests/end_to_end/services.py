"""What a cluster consists of, each started on a host: PostgreSQL, MLflow, an S3 server, Ray.

As infra/ starts them: MLflow by the command of infra/mlflow/compose.yaml, Ray with its token.
"""

import re
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.end_to_end.hosts import NETWORK, SECRETS, Host

POSTGRESQL = Path("/usr/lib/postgresql/15/bin")
S3_PORT, MLFLOW_PORT, RAY_PORT, DASHBOARD_PORT = 8333, 5000, 6379, 8265
_COMPOSE = Path(__file__).parents[2] / "infra" / "mlflow" / "compose.yaml"
_AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")


def missing() -> str | None:
    """What this machine lacks for the servers; None where it has all."""
    if not (POSTGRESQL / "postgres").exists():
        return f"no PostgreSQL in {POSTGRESQL}"
    if shutil.which("moto_server", path=Path(sys.executable).parent) is None:
        return "no moto_server"
    return None


def make_secrets(folder: Path) -> None:
    """The passwords that infra/'s services read from files."""
    for name in ("postgres_password", "s3_secret_key"):
        (folder / name).write_text(secrets.token_hex(24))


def start_postgresql(host: Host) -> None:
    """PostgreSQL with the user and the database ``mlflow``; it wants the password."""
    data = "/mnt/postgresql"
    host.run("install", "--directory", "--owner=postgres", "--mode=700", data)
    initdb = [str(POSTGRESQL / "initdb"), "--username=mlflow", "--auth=scram-sha-256"]
    host.run(*_AS_POSTGRES, *initdb, f"--pwfile={SECRETS}/postgres_password", data)
    with (host.folder / "postgresql" / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {NETWORK}.0/24 scram-sha-256\n")
    options = ["-c", "listen_addresses=*", "-c", "unix_socket_directories=/tmp"]
    server = str(POSTGRESQL / "postgres")
    host.start(*_AS_POSTGRES, server, "-D", data, *options, log="postgresql.log")
    host.wait_for(5432)
    createdb = f'PGPASSWORD="$(cat {SECRETS}/postgres_password)" {POSTGRESQL}/createdb'
    host.run("bash", "-c", f"{createdb} --host 127.0.0.1 --username mlflow mlflow")


def start_object_store(host: Host, buckets: Sequence[str]) -> None:
    """moto's S3 server, which writes a line for each request, with the client's address."""
    host.start("moto_server", "--host", "0.0.0.0", "--port", str(S3_PORT), log="requests.log")
    host.wait_for(S3_PORT)
    for bucket in buckets:
        make = f"import boto3; boto3.client('s3').create_bucket(Bucket={bucket!r})"
        host.run("python", "-c", make, environment=s3_environment("127.0.0.1"))


def s3_environment(store: str) -> dict[str, str]:
    """What leads a client to the store on the host of this name."""
    return {
        "AWS_ENDPOINT_URL": f"http://{store}:{S3_PORT}",
        "AWS_ACCESS_KEY_ID": "ucn",
        "AWS_SECRET_ACCESS_KEY": "moto-takes-any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def start_mlflow(host: Host) -> None:
    """The server of infra/mlflow/compose.yaml, by its command and in its environment."""
    service = yaml.safe_load(_COMPOSE.read_text())["services"]["mlflow"]
    words = [
        re.sub(r"\$\{UCN_ADDRESS:-[^}]*\}", host.address, word).replace("$$", "$")
        for word in service["command"]
    ]
    host.start(*words, log="mlflow.log", environment=service["environment"])
    host.wait_for(MLFLOW_PORT)


def start_ray(head: Host, nodes: Sequence[Host], cpus: int) -> None:
    """A cluster with token authentication; every node has the token and so many CPUs."""
    token = head.run("ray", "get-auth-token", "--generate").split()[-1]
    options = ("--num-cpus", str(cpus), "--disable-usage-stats")
    wants_token = {"RAY_AUTH_MODE": "token"}
    head.run("ray", "start", "--head", "--port", str(RAY_PORT), *options, environment=wants_token)
    for node in nodes:
        place = node.folder / "home" / ".ray" / "auth_token"
        place.parent.mkdir()
        place.write_text(token)
        place.chmod(0o600)
        address = f"{head.address}:{RAY_PORT}"
        node.run("ray", "start", "--address", address, *options, environment=wants_token)


def driver_environment(head: Host) -> dict[str, str]:
    """What makes a driver join the cluster of a head."""
    return {"RAY_ADDRESS": f"{head.address}:{RAY_PORT}", "RAY_AUTH_MODE": "token"}
