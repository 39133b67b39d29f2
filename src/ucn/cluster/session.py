"""Joins a Ray cluster or starts a local Ray: one code path for both."""

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from ucn.errors import UserError
from ucn.storage.addresses import redact


@contextmanager
def ray_session(num_cpus: int | None = None) -> Iterator[None]:
    """Have a Ray to submit to inside the block.

    Joins the cluster that the environment variable ``RAY_ADDRESS`` names, else starts a local one,
    which listens on loopback alone.
    A Ray that this process has initialised already is used as it is and left running.

    Args:
        num_cpus: CPUs that a local Ray may use; None for all of the machine. Ignored when joining.

    Raises:
        UserError: the cluster cannot be joined, or a local Ray does not start in time.
    """
    # Ray reads these while it is imported.
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
                # Without a word Ray joins whatever it finds recorded in /tmp/ray, dead or alive.
                address=address or "local",
                num_cpus=None if address else num_cpus,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
    except ConnectionError:
        raise UserError(
            f"{named}: cannot be joined; is it up, is this machine one of its nodes (`ray start "
            "--address`), and are RAY_AUTH_MODE=token and the token those of its head? `ucn "
            "doctor` looks; `ucn submit` works from other machines"
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
            f"{named}: is no address to join by; set it to HEAD:6379, or unset it for a local Ray"
        ) from None
    except Exception as error:
        # Ray has no class of its own for it.
        if "timed out during startup" not in str(error):
            raise
        raise UserError(
            "Ray did not start in time: too little CPU or memory is free here; try again when the "
            "machine is less busy (`ucn doctor` looks)"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _provide_token() -> None:
    """Where Ray could not keep its token in the home folder, give this process one of its own."""
    home = Path.home()
    folder = home / ".ray"
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if given or (folder / "auth_token").exists():
        return
    if not os.access(folder if folder.exists() else home, os.W_OK):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _loopback() -> Iterator[None]:
    """Let a Ray that starts inside the block be this machine's alone.

    Ray listens on all interfaces of a Linux machine, and takes 127.0.0.1 for a request to find an
    address that others reach. On macOS and Windows it does what is wanted; this is its switch.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
