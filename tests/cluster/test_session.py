"""Which Ray is joined, and when one is started."""

import os
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray._private import ray_constants

from ucn.cluster import session
from ucn.cluster.session import ray_session
from ucn.errors import UserError
from ucn.storage import addresses


@pytest.mark.parametrize(
    ("variable", "address", "cpus"), [(None, "local", 2), ("head:6379", "head:6379", None)]
)
def test_only_a_named_cluster_is_joined(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, address: str, cpus: int | None
) -> None:
    """Without a name Ray would join what lies recorded in its folder, dead or alive."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options))
    monkeypatch.setattr(
        ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="127.0.0.1:1")
    )
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(session, "head_error", lambda _: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    with ray_session(2):
        assert (asked["address"], asked["num_cpus"]) == (address, cpus)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionError("no answer"), "cannot be joined"),
        (ValueError("Invalid Ray address"), "not the address of a cluster"),
        (ray.exceptions.AuthenticationError("no token"), "there is no token"),
        (Exception("The current node timed out during startup."), "did not start in time"),
        (RuntimeError("Timed out waiting for file gcs_server_port"), "did not start in time"),
    ],
)
def test_what_keeps_a_driver_out_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def refuse(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "http://me:secret@head:8265")
    with pytest.raises(UserError, match=told) as refused, ray_session():
        pass
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("missing", ["attribute", "module"])
def test_without_its_switch_for_loopback_no_local_ray_is_started(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "attribute":
        monkeypatch.delattr(ray_constants, "ENABLE_RAY_CLUSTER")
    else:
        monkeypatch.setitem(sys.modules, "ray._private.ray_constants", None)
        monkeypatch.delattr(ray._private, "ray_constants")
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("a local Ray was started"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="listens on all interfaces") as refused, ray_session():
        pass
    assert "\n" not in str(refused.value)
    assert not hasattr(ray_constants, "ENABLE_RAY_CLUSTER") or missing == "module"


def test_a_local_ray_that_listens_for_others_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(
        ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="10.0.0.5:1")
    )
    monkeypatch.setattr(ray, "shutdown", lambda: stopped.append(True))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="listens on all interfaces"), ray_session():
        pytest.fail("it was used")
    assert stopped


@pytest.mark.parametrize("server", ["none", "silent", "http"])
def test_an_address_without_a_head_is_refused(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    """Ray would retry for many minutes."""
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray tried to join"))
    monkeypatch.setattr(addresses, "CONNECT_S", 0.5)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if server != "none":
            listener.listen()
        if server == "http":
            thread = threading.Thread(target=_answer_once, args=(listener,), daemon=True)
            thread.start()
        host, port = listener.getsockname()
        monkeypatch.setenv("RAY_ADDRESS", f"{host}:{port}")
        with pytest.raises(UserError, match=f"{host}:{port}: no connection"), ray_session():
            pass


def _answer_once(listener: socket.socket) -> None:
    for _ in range(2):
        connection, _ = listener.accept()
        with connection:
            if connection.recv(100):
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize(
    ("variable", "length", "free", "told"),
    [
        ("TMPDIR", 38, 2**30, None),
        ("TMPDIR", 39, 2**30, "/tmp/ray"),
        ("RAY_TMPDIR", 39, 2**30, "too long for the names of Ray's sockets"),
        ("TMPDIR", 30, 2**20, "the disk is full"),
    ],
)
def test_the_folder_of_a_local_ray(
    monkeypatch: pytest.MonkeyPatch, variable: str, length: int, free: int, told: str | None
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        folder = Path(parent) / ("x" * (length - len(parent) - 1))
        folder.mkdir()
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        monkeypatch.setenv(variable, str(folder))
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        given: dict[str, Any] = {}
        monkeypatch.setattr(ray, "init", lambda **options: given.update(options))
        monkeypatch.setattr(ray, "shutdown", lambda: None)
        context = SimpleNamespace(gcs_address="127.0.0.1:1")
        monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
        if told and not told.startswith("/"):
            with pytest.raises(UserError, match=told), ray_session():
                pass
        else:
            with ray_session():
                assert given["_temp_dir"] == (told or f"{folder}/ray")


def test_the_token_is_readable_by_its_owner_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    context = SimpleNamespace(gcs_address="127.0.0.1:1")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    path = tmp_path / ".ray" / "auth_token"
    with ray_session():
        token = path.read_text()
    assert (path.stat().st_mode & 0o777, len(token)) == (0o600, 64)
    with ray_session():
        assert path.read_text() == token
    assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.ray
def test_a_local_ray_is_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with ray_session(1):
        assert ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")
