"""Ray, joined or started: one code path for a laptop and a cluster."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from preprocessing.errors import UserError


@contextmanager
def ray_session(num_cpus: int | None = None) -> Iterator[None]:
    """Have a Ray to submit to inside the block.

    Joins the cluster that the environment variable ``RAY_ADDRESS`` names, else starts a local one,
    which listens on loopback alone.
    A Ray that this process has initialised already is used as it is and left running.

    Args:
        num_cpus: CPUs that a local Ray may use; None for all of the machine. Ignored when joining.

    Raises:
        UserError: the cluster cannot be joined.
    """
    # Ray reads these while it is imported.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
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
            f"RAY_ADDRESS={address}: no Ray answers there, or it wants a token; start it, or set "
            "RAY_AUTH_MODE=token (infra/README.md)"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


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
