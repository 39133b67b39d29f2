"""Joins a Ray cluster or starts a local Ray; callers use the same code for both."""

import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path

from ucn.errors import UserError
from ucn.notice import notice
from ucn.storage.addresses import connect, connection_error, redact
from ucn.storage.files import LONGEST_SOCKET_FOLDER, make_folder, socket_folder

_EMPTY_SETTINGS = bytes(3) + b"\x04" + bytes(5)
_MIN_FREE = 64 * 2**20


@contextmanager
def ray_session(num_cpus: int | None = None) -> Iterator[None]:
    """Provides an initialised Ray inside the block.

    If this process has already initialised Ray, it is used and left running. Otherwise this joins
    the cluster of the environment variable ``RAY_ADDRESS``, or starts a local Ray that listens on
    loopback only.

    Args:
        num_cpus: CPUs of a local Ray; None for all CPUs of the machine. Ignored when joining.

    Raises:
        UserError: the cluster cannot be joined, or a local Ray does not start in time, has no
            folder for its files, or cannot be restricted to loopback.
    """
    address = os.environ.get("RAY_ADDRESS")
    named = f"RAY_ADDRESS={redact(address or 'local')}"
    joins = address not in (None, "", "local")
    # Ray reads these variables on import.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    # Ray itself retries for many minutes, and cannot be interrupted.
    if address and joins and (reason := head_error(address)):
        raise UserError(
            f"{named}: no connection ({reason}); start the cluster, set it to its HEAD:6379, or "
            "unset it for a local Ray"
        )
    if not joins:
        _provide_token()
    try:
        with notice("starting Ray"), nullcontext() if joins else _loopback():
            ray.init(
                # Without an address Ray joins the cluster recorded in /tmp/ray, even a dead one.
                address=address or "local",
                num_cpus=None if joins else num_cpus,
                include_dashboard=None if joins else False,
                _temp_dir=None if joins else _ray_folder(),
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
    except ConnectionError:
        raise UserError(
            f"{named}: cannot be joined; is it running, is this machine one of its nodes (`ray "
            "start --address`), and are RAY_AUTH_MODE=token and the token those of its head? See "
            "`ucn doctor`; `ucn submit` works from other machines"
        ) from None
    except ray.exceptions.AuthenticationError:
        raise UserError(
            "RAY_AUTH_MODE=token, but there is no token; put into ~/.ray/auth_token what "
            "`ray get-auth-token` prints on the cluster's head node"
        ) from None
    except ValueError:
        if not joins:
            raise
        raise UserError(
            f"{named}: not the address of a cluster; set it to HEAD:6379, or unset it for a local "
            "Ray"
        ) from None
    except Exception as error:
        # Ray raises a plain Exception or a RuntimeError here.
        if "timed out" not in str(error).lower():
            raise
        raise UserError(
            "Ray did not start in time: too little CPU or memory is free here; try again when the "
            "machine is less busy, see `ucn doctor`"
        ) from None
    try:
        if not joins and not ray.get_runtime_context().gcs_address.startswith("127."):
            raise UserError(_not_on_loopback())
        yield
    finally:
        ray.shutdown()


def head_error(address: str) -> str | None:
    """Why no Ray head answers at ``HOST:PORT``; None if a gRPC server does, or for other addresses.

    A gRPC server sends its settings when a connection is opened (RFC 9113, section 3.4).
    """
    if address == "auto" or "://" in address or os.environ.get("RAY_USE_TLS") == "1":
        return None
    if reason := connection_error(address):
        return reason
    try:
        with connect(address) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _EMPTY_SETTINGS)
            header = connection.recv(len(_EMPTY_SETTINGS))
    except OSError:
        header = b""
    return None if header[3:4] == _EMPTY_SETTINGS[3:4] else "what listens there is not a Ray head"


def _ray_folder() -> str:
    """Folder for the sockets and logs of a local Ray, below RAY_TMPDIR, TMPDIR or /tmp.

    Raises:
        UserError: its path is too long for a socket, it cannot be written, or its disk is full.
    """
    parent = os.environ.get("RAY_TMPDIR") or socket_folder()
    if len(os.fsencode(parent)) > LONGEST_SOCKET_FOLDER:
        raise UserError(
            f"{parent}: too long for the names of Ray's sockets; set RAY_TMPDIR to a folder of at "
            f"most {LONGEST_SOCKET_FOLDER} characters"
        )
    make_folder(parent)
    if shutil.disk_usage(parent).free < _MIN_FREE:
        raise UserError(
            f"{parent}: the disk is full, and a local Ray writes its logs there; free some space, "
            "or set RAY_TMPDIR to a folder of another disk"
        )
    return os.path.join(parent, "ray")


def _provide_token() -> None:
    """Makes Ray's token readable by its owner only; Ray itself makes it readable by all.

    If the home folder cannot be written, the token is set for this process.
    """
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        return
    token = secrets.token_hex(32)
    try:
        path = Path.home() / ".ray" / "auth_token"
        path.parent.mkdir(exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
    except FileExistsError:
        pass
    except (OSError, RuntimeError):
        # pathlib raises RuntimeError for a user without a home folder.
        os.environ["RAY_AUTH_TOKEN"] = token


@contextmanager
def _loopback() -> Iterator[None]:
    """Restricts a Ray started inside the block to loopback.

    On Linux, Ray listens on all interfaces and replaces the address 127.0.0.1 by an external one.
    On macOS and Windows it uses loopback. This sets the constant that selects between the two.

    Raises:
        UserError: this release of Ray has no such constant.
    """
    try:
        from ray._private import ray_constants

        before = ray_constants.ENABLE_RAY_CLUSTER
    except (ImportError, AttributeError):
        raise UserError(_not_on_loopback()) from None
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _not_on_loopback() -> str:
    return (
        f"ray {version('ray')}: a local Ray of this release listens on all interfaces; install the "
        "version of requirements.lock, or set RAY_ADDRESS to a running cluster"
    )
