"""The device of a network, and why a GPU cannot be used."""

import logging
import socket
import warnings

import torch

from ucn.errors import UserError
from ucn.matching.coarse_search import has_fast_bfloat16

_CHECK_S = 30.0
"""Nodes whose GPUs are all in use do not answer; they are not waited for any longer."""

logger = logging.getLogger(__name__)


def resolve_device(device: str | torch.device) -> torch.device:
    """Device of a network in this process; ``auto`` is the GPU if there is a usable one.

    Raises:
        UserError: it is a GPU that PyTorch cannot use.
    """
    if str(device) == "auto":
        seen = torch.cuda.is_available()
        return torch.device("cuda" if use_gpus("auto", int(seen), seen and cuda_error()) else "cpu")
    resolved = torch.device(device)
    if resolved.type == "cuda":
        use_gpus("cuda", 1, cuda_error())
    return resolved


def use_bfloat16(wanted: bool | None, device: torch.device) -> bool:
    """Whether a network runs in bfloat16; None: where the device multiplies it fast."""
    return has_fast_bfloat16(device) if wanted is None else wanted


def use_gpus(device: str, gpus: float, error: str | bool) -> bool:
    """Whether networks run on GPUs.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        gpus: number of GPUs.
        error: why PyTorch cannot use them; empty if it can.

    Raises:
        UserError: ``cuda``, and PyTorch cannot use the GPUs.
    """
    if device == "cuda" and error:
        raise UserError(f"device: cuda, but {error}; see docs/gpus.md, or set device to cpu")
    if device == "auto" and error:
        logger.warning("device: %s; using the CPU (see docs/gpus.md)", error)
    return device == "cuda" or (device == "auto" and gpus > 0 and not error)


def cuda_error() -> str:
    """Why PyTorch cannot compute on a GPU in this process, in one line; empty if it can.

    The reasons are a build without CUDA or without kernels for the GPU, or the driver.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.zeros(1, device="cuda")
            torch.cuda.synchronize()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        return f"PyTorch {torch.__version__} on {socket.gethostname()} cannot use a GPU ({reason})"
    return ""


def cluster_cuda_error() -> str:
    """Why PyTorch cannot use the GPUs of a node of Ray; empty if it can on every node that answers.

    Asks by a task on each node that has GPUs.
    """
    import ray

    check = ray.remote(num_cpus=0, num_gpus=0.01, max_retries=0)(cuda_error)
    calls = [
        check.options(label_selector={"ray.io/node-id": node["NodeID"]}).remote()
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["Resources"].get("GPU")
    ]
    if not calls:
        return ""
    done, busy = ray.wait(calls, num_returns=len(calls), timeout=_CHECK_S)
    for call in busy:
        ray.cancel(call)
    return next(filter(None, ray.get(done)), "")
