"""On how many workers a run trains, and on what: at the start, and as nodes go and come.

Ray Train shrinks by itself: when workers die, it starts as many as there is room for. It grows by
itself too, but at any moment, so that the steps since the last checkpoint are lost:
`GrowAtCheckpoints` waits for the next one.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ray
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)
from ray.train.v2._internal.execution.worker_group import WorkerGroupPollStatus, WorkerGroupState
from ray.train.v2.api.config import ScalingConfig  # that of `ray.train` is typed as of version 1

from ucn.errors import UserError
from ucn.training.config import TrainConfig

GROW_INTERVAL_S = 20.0
"""Growing is thought of so often at most; Ray looks at its nodes as often."""
WAIT_S = 0.5
"""Between two questions whether there is room to start."""

logger = logging.getLogger(__name__)


def scaling(
    config: TrainConfig, resources: Mapping[str, float], *, nodes_may_come: bool
) -> ScalingConfig:
    """Settle on what and how many workers a run trains.

    Where nodes may come, workers that there is no room for yet are waited for, and a warning says
    so.

    Args:
        resources: ``CPU`` and ``GPU`` of all nodes that are up.
        nodes_may_come: a cluster; a Ray of this machine alone is all there at once.

    Raises:
        UserError: there is no room for the workers and none will come, or `auto` would be a guess.
    """
    gpus = resources.get("GPU", 0)
    if config.device == "auto" and gpus == 0 and nodes_may_come:
        if config.min_workers is not None:
            raise UserError(
                "device: auto, but Ray has no GPU, or none yet; set device to cuda to wait for "
                "GPUs, or to cpu"
            )
        logger.warning("device: Ray has no GPU; training on CPUs (device=cuda waits for GPUs)")
    use_gpu = config.device == "cuda" or (config.device == "auto" and gpus > 0)
    _check_room(config, "GPU" if use_gpu else "CPU", resources, nodes_may_come)
    return ScalingConfig(
        num_workers=(config.min_workers, config.workers) if config.min_workers else config.workers,
        use_gpu=use_gpu,
        elastic_resize_monitor_interval_s=GROW_INTERVAL_S,
    )


def _check_room(
    config: TrainConfig, kind: str, resources: Mapping[str, float], nodes_may_come: bool
) -> None:
    """Refuse workers that there will be no room for; warn of those that are to be waited for."""
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


class GrowAtCheckpoints(ElasticScalingPolicy):
    """Lets a run that is well grow only when a checkpoint has come in, and only into free room.

    Ray's own policy takes all room of the nodes for free, and a run that it stops to grow waits
    for what other jobs hold.
    """

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """Decide how many workers to start; wait a moment if there is no room for the fewest."""
        decision = super().make_decision_for_non_running_worker_group()
        if isinstance(decision, NoopDecision):
            # Ray asks again at once, and would keep a CPU busy while nodes are waited for.
            time.sleep(WAIT_S)
        return decision

    def make_decision_for_running_worker_group(
        self, worker_group_state: WorkerGroupState, worker_group_status: WorkerGroupPollStatus
    ) -> ScalingDecision:
        """Decide after a look at the workers, whose reports have been taken."""
        reports = [one.training_report for one in worker_group_status.worker_statuses.values()]
        if not any(report is not None and report.checkpoint is not None for report in reports):
            self._maybe_send_resource_request()  # type: ignore[no-untyped-call]
            return NoopDecision()
        decision = super().make_decision_for_running_worker_group(
            worker_group_state, worker_group_status
        )
        if not isinstance(decision, ResizeDecision):
            return decision
        now = worker_group_state.num_workers
        free = ray.available_resources()  # type: ignore[no-untyped-call]
        return within_free_room(decision, now, free)


def within_free_room(
    decision: ResizeDecision, now: int, free: Mapping[str, float]
) -> ScalingDecision:
    """Grow from ``now`` workers by no more than there are resources free for."""
    each = decision.resources_per_worker
    more = min(int(free.get(kind, 0) // amount) for kind, amount in each.items())
    workers = min(decision.num_workers, now + more)
    return NoopDecision() if workers == now else replace(decision, num_workers=workers)


class ElasticTrainer(TorchTrainer):
    """Ray's trainer, which has no option for the scaling policy, with `GrowAtCheckpoints`."""

    def _initialize_and_run_controller(self, **options: Any) -> Any:
        policy = options["scaling_policy"]
        if isinstance(policy, ElasticScalingPolicy):
            options["scaling_policy"] = GrowAtCheckpoints(policy.scaling_config)
        return super()._initialize_and_run_controller(**options)  # type: ignore[misc] # as above
