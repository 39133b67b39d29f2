"""Joins a Ray cluster or starts a local Ray; callers use the same code for both."""

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path

from ucn.errors import UserError
from ucn.storage.addresses import redact


@contextmanager
def ray_session(num_cpus: int | None = None) -> Iterator[None]:
    """Provides an initialised Ray inside the block.

    If this process has already initialised Ray, it is used and left running. Otherwise this joins
    the cluster of the environment variable ``RAY_ADDRESS``, or starts a local Ray that listens on
    loopback only.

    Args:
        num_cpus: CPUs of a local Ray; None for all CPUs of the machine. Ignored when joining.

    Raises:
        UserError: the cluster cannot be joined, or a local Ray does not start in time or cannot be
            restricted to loopback.
    """
    # Ray reads these variables on import.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    named = f"RAY_ADDRESS={redact(address or 'local')}"
    if not address:
        _provide_token()
    try:
        with nullcontext() if address else _loopback():
            ray.init(
                # Without an address Ray joins the cluster recorded in /tmp/ray, even a dead one.
                address=address or "local",
                num_cpus=None if address else num_cpus,
                include_dashboard=None if address else False,
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
        if not address:
            raise
        raise UserError(
            f"{named}: not the address of a cluster; set it to HEAD:6379, or unset it for a local "
            "Ray"
        ) from None
    except Exception as error:
        # Ray raises a plain Exception here.
        if "timed out during startup" not in str(error):
            raise
        raise UserError(
            "Ray did not start in time: too little CPU or memory is free here; try again when the "
            "machine is less busy, see `ucn doctor`"
        ) from None
    try:
        if not address and not ray.get_runtime_context().gcs_address.startswith("127."):
            raise UserError(_not_on_loopback())
        yield
    finally:
        ray.shutdown()


def _provide_token() -> None:
    """Sets a token for this process if Ray cannot write one into the home folder."""
    home = Path.home()
    folder = home / ".ray"
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if given or (folder / "auth_token").exists():
        return
    if not os.access(folder if folder.exists() else home, os.W_OK):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


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
