"""How many workers a run trains on: what is refused and what waits for nodes."""

import logging
from typing import Any

import pytest
import torch

from ucn.errors import UserError
from ucn.training import worker as ray_worker
from ucn.training.config import TrainConfig
from ucn.training.scaling import scaling


def config(**values: Any) -> TrainConfig:
    return TrainConfig.model_validate({"batch_size": 16, **values})


@pytest.mark.parametrize(
    ("values", "resources", "workers", "use_gpu"),
    [
        ({"workers": 2}, {"CPU": 2}, 2, False),
        ({"workers": 2}, {"CPU": 2, "GPU": 2}, 2, True),
        ({"workers": 2, "device": "cpu"}, {"CPU": 2, "GPU": 1}, 2, False),
        ({"workers": 4, "min_workers": 1}, {"CPU": 2}, (1, 4), False),
        ({"workers": 4, "min_workers": 2}, {"CPU": 9, "GPU": 2}, (2, 4), True),
    ],
)
def test_workers_of_one_machine(
    values: dict[str, Any],
    resources: dict[str, float],
    workers: int | tuple[int, int],
    use_gpu: bool,
) -> None:
    found = scaling(config(**values), resources, nodes_may_come=False)
    assert (found.num_workers, found.use_gpu) == (workers, use_gpu)


@pytest.mark.parametrize(
    ("values", "resources", "message"),
    [
        ({"workers": 3}, {"CPU": 2}, "workers: 3, but Ray has 2 CPUs; lower workers"),
        (
            {"workers": 2},
            {"CPU": 8, "GPU": 1},
            "workers: 2, but Ray has 1 GPUs; lower workers, or set device to cpu",
        ),
        (
            {"workers": 2, "device": "cuda"},
            {"CPU": 8},
            "workers: 2, but Ray has 0 GPUs; lower workers, or set device to cpu",
        ),
        (
            {"workers": 4, "min_workers": 3},
            {"CPU": 2},
            "min_workers: 3, but Ray has 2 CPUs; lower min_workers",
        ),
    ],
)
def test_what_one_machine_has_no_room_for_is_refused(
    values: dict[str, Any], resources: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError) as error:
        scaling(config(**values), resources, nodes_may_come=False)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("values", "resources", "use_gpu", "warning"),
    [
        ({"workers": 2, "device": "cuda"}, {"CPU": 8, "GPU": 2}, True, None),
        (
            {"workers": 4, "device": "cuda"},
            {"CPU": 8},
            True,
            "workers: 4, but Ray has 0 GPUs; waiting for more",
        ),
        (
            {"workers": 4, "min_workers": 2, "device": "cuda"},
            {"GPU": 1},
            True,
            "min_workers: 2, but Ray has 1 GPUs; waiting for more",
        ),
        ({"workers": 4, "min_workers": 1}, {"GPU": 1}, True, None),
        (
            {"workers": 2, "device": "cpu"},
            {},
            False,
            "workers: 2, but Ray has 0 CPUs; waiting for more",
        ),
        (
            {"workers": 2},
            {"CPU": 2},
            False,
            "device: Ray has no GPU; training on CPUs (device=cuda waits for GPUs)",
        ),
    ],
)
def test_a_cluster_is_waited_for_in_one_line(
    values: dict[str, Any],
    resources: dict[str, float],
    use_gpu: bool,
    warning: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert scaling(config(**values), resources, nodes_may_come=True).use_gpu is use_gpu
    assert caplog.messages == ([warning] if warning else [])


def test_an_elastic_run_does_not_guess_that_no_gpus_will_come() -> None:
    with pytest.raises(UserError, match="device: auto, but Ray has no GPU, or none yet"):
        scaling(config(workers=4, min_workers=1), {"CPU": 8}, nodes_may_come=True)


def test_a_gpu_that_pytorch_does_not_see_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_worker, "get_device", lambda: torch.device("cpu"))
    assert ray_worker._device(config(device="auto")).type == "cpu"
    with pytest.raises(UserError, match="device: cuda, but PyTorch sees no GPU"):
        ray_worker._device(config(device="cuda"))
