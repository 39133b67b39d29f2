"""The device of a network: what `auto` means, and a GPU that PyTorch cannot use."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from ucn.cluster.session import ray_session
from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.job import evaluate
from ucn.evaluation.pool import worker_pool
from ucn.images.draw import write_picture
from ucn.pipeline.main import main
from ucn.training import device
from ucn.training.config import TrackingConfig, TrainConfig
from ucn.training.device import cuda_error, resolve_device, use_gpus
from ucn.training.job import train

needs_cpu_only = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
CANNOT = r"device: cuda, but PyTorch .* on .* cannot use a GPU \(.+\); see docs/gpus.md, or set"


@pytest.mark.parametrize(
    ("wanted", "gpus", "error", "found", "warnings"),
    [
        ("cpu", 0, "", False, 0),
        ("cpu", 4, "", False, 0),
        ("auto", 0, "", False, 0),
        ("auto", 4, "", True, 0),
        ("auto", 4, "the driver is too old", False, 1),
        ("cuda", 4, "", True, 0),
        ("cuda", 0, "", True, 0),
    ],
)
def test_when_networks_run_on_gpus(
    wanted: str,
    gpus: int,
    error: str,
    found: bool,
    warnings: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert use_gpus(wanted, gpus, error) is found
    assert len(caplog.messages) == warnings
    assert all(error in message for message in caplog.messages)


def test_a_gpu_that_was_asked_for_and_cannot_be_used_is_refused() -> None:
    with pytest.raises(UserError, match="device: cuda, but the driver is too old; see"):
        use_gpus("cuda", 4, "the driver is too old")


def test_auto_is_a_gpu_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    for seen, error, expected in ((True, "", "cuda"), (True, "old", "cpu"), (False, "", "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda seen=seen: seen)
        monkeypatch.setattr(device, "cuda_error", lambda error=error: error)
        assert resolve_device("auto") == torch.device(expected)


def test_bfloat16_by_default_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for amx, avx512, ampere in product((False, True), repeat=3):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda on=amx: on)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda on=avx512: on)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda on=ampere, **_: on)
        assert device.use_bfloat16(None, cpu) is (amx or avx512)
        assert device.use_bfloat16(None, cuda) is ampere
        for wanted in (False, True):
            assert device.use_bfloat16(wanted, cpu) is device.use_bfloat16(wanted, cuda) is wanted


@needs_cpu_only
def test_this_machine_tells_why_it_has_none(tmp_path: Path, capfd) -> None:
    assert "\n" not in cuda_error() != ""
    with pytest.raises(UserError, match=CANNOT):
        resolve_device("cuda")
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    photo = tmp_path / "photo.png"
    other = tmp_path / "other.png"
    for path in (photo, other):
        write_picture(path, np.zeros((64, 64, 3), np.uint8))
    assert main(["match", str(photo), str(other), "--device", "cuda"]) == 2
    assert "device: cuda, but PyTorch" in capfd.readouterr().err


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray that is told of a GPU, with a PyTorch that cannot use one."""
    import ray

    monkeypatch.setattr(ray, "init", partial(ray.init, num_gpus=1))
    with ray_session(2):
        yield


@pytest.mark.ray
@needs_cpu_only
@pytest.mark.usefixtures("fake_gpu")
def test_unusable_gpus_of_ray_are_one_line_before_anything_starts(
    tiny_config: TrainConfig,
    write_shards: Callable[[str, int], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shards = str(write_shards("train", 8))
    data = tiny_config.data.model_copy(update={"shards": (shards,)})
    config = tiny_config.model_copy(update={"data": data, "device": "cuda"})
    with pytest.raises(UserError, match=CANNOT) as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert not list(Path(config.output).glob("checkpoints/*/*"))
    evaluation = EvaluateConfig(
        shards=(shards,),
        baselines=("daisy",),
        device="cuda",
        output=tmp_path / "report",
        tracking=TrackingConfig(enabled=False),
    )
    with pytest.raises(UserError, match=CANNOT):
        evaluate(evaluation)
    with (
        caplog.at_level(logging.WARNING),
        worker_pool(evaluation.model_copy(update={"device": "auto"}), 1) as workers,
    ):
        assert len(workers) == 1
    assert any("using the CPU" in message for message in caplog.messages)
