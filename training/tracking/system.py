"""Load of the machine during a run: processor, memory, disk, network, GPUs."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)


Log = Callable[[Mapping[str, float], int], object]


@contextmanager
def system_metrics(log: Log | None, interval_s: float = 10.0) -> Iterator[None]:
    """Log the load of this machine, under MLflow's names (``system/...``), during the block.

    GPUs are measured if pynvml is installed. The step is the time in seconds, which a resumed run
    does not repeat.

    Args:
        log: takes metrics and their step; nothing is measured without it.
        interval_s: seconds between samples.
    """
    if log is None:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(
        target=_sample, args=(log, interval_s, ended), name="system-metrics", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sample(log: Log, interval_s: float, ended: threading.Event) -> None:
    try:
        monitors = _monitors()
        while not ended.wait(interval_s):
            metrics: dict[str, float] = {}
            for monitor in monitors:
                monitor.collect_metrics()
                metrics |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            values = {f"system/{name}": value for name, value in metrics.items()}
            log(values, int(time.time()))
    except Exception as error:  # noqa: BLE001 - no error of tracking stops a run
        logger.warning("no system metrics from now on (%s)", error)


def _monitors() -> list[Any]:
    """MLflow's monitors of each device, which MLflow's own sampler stops at the first outage."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    kinds: tuple[Any, ...] = CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor
    monitors = []
    for kind in kinds:
        try:
            monitors.append(kind())
        except (ImportError, RuntimeError):
            logger.debug("no %s: no GPU, or no pynvml", kind.__name__)
    return monitors
