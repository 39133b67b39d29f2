"""How many workers a run trains on, and whether they have GPUs."""

import logging
from collections.abc import Mapping

from ray.train import ScalingConfig

from ucn.errors import UserError
from ucn.training.config import TrainConfig
from ucn.training.device import use_gpus

RESIZE_INTERVAL_S = 60.0
"""How often Ray Train considers to resize an elastic run. A resize repeats the steps since the last
checkpoint."""

logger = logging.getLogger(__name__)


def scaling(
    config: TrainConfig,
    resources: Mapping[str, float],
    *,
    nodes_may_come: bool,
    gpu_error: str = "",
) -> ScalingConfig:
    """Choose the number of workers and their device, and check that there is room for them.

    Args:
        config: the run.
        resources: ``CPU`` and ``GPU`` of all nodes that are up.
        nodes_may_come: whether Ray is a cluster, where workers wait for nodes with a warning. A
            local Ray never gets more room.
        gpu_error: why PyTorch cannot use the GPUs; empty if it can.

    Raises:
        UserError: there is no room for the workers and none will come, `auto` is ambiguous, or the
            GPUs cannot be used.
    """
    gpus = resources.get("GPU", 0)
    if config.device == "auto" and gpus == 0 and nodes_may_come:
        if config.min_workers is not None:
            raise UserError(
                "device: auto, but Ray has no GPU, or none yet; set device to cuda to wait for "
                "GPUs, or to cpu"
            )
        logger.warning("device: Ray has no GPU; training on CPUs (device=cuda waits for GPUs)")
    use_gpu = use_gpus(config.device, gpus, gpu_error)
    _check_room(config, "GPU" if use_gpu else "CPU", resources, nodes_may_come)
    return ScalingConfig(  # type: ignore[call-arg] # typed as that of version 1
        num_workers=(config.min_workers, config.workers) if config.min_workers else config.workers,  # type: ignore[arg-type]
        use_gpu=use_gpu,
        elastic_resize_monitor_interval_s=RESIZE_INTERVAL_S,
    )


def _check_room(
    config: TrainConfig, kind: str, resources: Mapping[str, float], nodes_may_come: bool
) -> None:
    """Refuse workers that will never have room; warn of those that wait for nodes."""
    option = "workers" if config.min_workers is None else "min_workers"
    needed, room = config.min_workers or config.workers, resources.get(kind, 0)
    if needed <= room:
        return
    lack = f"{option}: {needed}, but Ray has {room:g} {kind}s"
    if nodes_may_come:
        logger.warning("%s; waiting for more", lack)
        return
    remedy = ", or set device to cpu" if kind == "GPU" else ""
    raise UserError(f"{lack}; lower {option}{remedy}")
