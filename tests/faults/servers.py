"""MLflow's server and PostgreSQL as processes on loopback, to be killed and started again."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from tests.faults.machines import family, kill

POSTGRESQL = Path("/usr/lib/postgresql/15/bin")
"""Where Debian puts it."""
START_S = 240.0


class MlflowServer:
    """`mlflow server`, at one address however often it is started.

    Args:
        folder: for its artifacts, its output and, by default, its database.
        database: address of another database.
    """

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self._folder = folder
        self._database = database or f"sqlite:///{folder / 'server.db'}"
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--backend-store-uri", self._database]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        with (self._folder / "mlflow.txt").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=dict(os.environ) | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )
        _wait_for(self._answers, lambda: (self._folder / "mlflow.txt").read_text())

    def kill(self) -> None:
        """SIGKILL it and its workers."""
        if self._process is not None:
            kill(family(psutil.Process(self._process.pid)))
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.uri}/health", timeout=2).ok
        except requests.RequestException:
            return False


class Postgres:
    """A PostgreSQL server of a new database.

    Attributes:
        uri: of the database, as MLflow takes it.
    """

    def __init__(self, folder: Path) -> None:
        if not POSTGRESQL.is_dir():
            pytest.skip(f"no PostgreSQL in {POSTGRESQL}")
        # It refuses to run as root.
        self._user = _other_user() if os.geteuid() == 0 else None
        self._folder, self._data = folder, folder / "data"
        port = _free_port()
        self.uri = f"postgresql+psycopg2://ucn@127.0.0.1:{port}/postgres"
        if self._user is not None:
            shutil.chown(folder, self._user)
        self._run("initdb", "--auth", "trust", "--username", "ucn", "--no-sync")
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(f"port = {port}\nlisten_addresses = '127.0.0.1'\n")
            settings.write(f"unix_socket_directories = '{folder}'\n")

    def start(self) -> None:
        self._run("pg_ctl", "start", "--wait", "--log", str(self._folder / "log.txt"))

    def restart_at_once(self) -> None:
        """Abort all connections without a word to the clients, and recover."""
        self._run("pg_ctl", "restart", "-m", "immediate", "--log", str(self._folder / "log.txt"))

    def kill(self) -> None:
        """SIGKILL the server and what serves its connections."""
        first = int((self._data / "postmaster.pid").read_text().split()[0])
        every = family(psutil.Process(first))
        kill(every)
        psutil.wait_procs(every, timeout=10)

    def stop(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "-m", "immediate")

    def _run(self, program: str, *words: str) -> None:
        command = [str(POSTGRESQL / program), "-D", str(self._data), *words]
        done = subprocess.run(
            command,
            user=self._user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            # A server that goes on running would keep a pipe open.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, f"{command} ends with {done.returncode}"


@contextmanager
def mlflow_server(folder: Path, database: str | None = None) -> Iterator[MlflowServer]:
    """Have a running server inside the block."""
    server = MlflowServer(folder, database)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Have a running PostgreSQL inside the block; the test is skipped where none is installed."""
    # Another user must reach it, which pytest's folders do not allow.
    with tempfile.TemporaryDirectory(prefix="ucn-postgres-") as folder:
        server = Postgres(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _wait_for(done: Callable[[], bool], explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + START_S
    while not done():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.2)


def _other_user() -> str:
    names = [user.pw_name for user in pwd.getpwall()]
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port
