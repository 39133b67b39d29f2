"""Every preset is valid, and its network can be built."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from ucn.pipeline.arguments import read_values
from ucn.pipeline.config import RunConfig
from ucn.training.config import TrainConfig
from ucn.training.loop.optimise import learning_rate
from ucn.training.networks import build_network

PRESETS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_preset(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    if values.keys() == {"train"}:
        values = on_top_of("kitti-raw", path.stem)
    if "shards" in values:
        run = RunConfig.model_validate({"train": {}, "evaluate": {}} | values)
        train = run.train
        mixed = [split for split in run.shards if split.split("_")[0] == "train"]
        assert train.data.shards == tuple(run.shards[split].out for split in mixed)
    else:
        train = TrainConfig.model_validate(values)
    build_network(train.network.name, train.network.options)


def on_top_of(base: str, *layers: str) -> dict[str, Any]:
    return read_values([PRESETS[0].with_name(f"{name}.yaml") for name in (base, *layers)], [])


@pytest.mark.parametrize("layer", ["gpu-1", "gpu-8"])
@pytest.mark.parametrize(
    "base", ["kitti-raw", "table3-kitti", "table3-sintel", "table6", "figure5"]
)
def test_gpu_presets_fit_1_to_16_workers_and_keep_their_rule(base: str, layer: str) -> None:
    first = RunConfig(**on_top_of(base)).train
    values = on_top_of(base, layer)
    scaled = RunConfig(**values).train
    ratio = scaled.batch_size / first.batch_size
    expected = first.optimiser.learning_rate * math.sqrt(ratio)
    assert scaled.optimiser.learning_rate == pytest.approx(expected, rel=0.01)
    assert (first.optimiser.name, first.optimiser.learning_rate) == ("adamw", 0.003)
    assert scaled.steps * ratio == first.steps
    assert 32 <= scaled.batch_size <= 64
    for workers in range(1, 17):
        values["train"]["workers"] = workers
        assert RunConfig(**values).train.workers == workers


def test_presets_of_the_paper_train_on_colour_by_its_rule() -> None:
    for name in ("kitti-raw", "table3-kitti", "table3-sintel", "table6", "figure5"):
        run = RunConfig(**({"evaluate": {}} | on_top_of(name)))
        assert {source.images for source in run.shards.values()} == {"rgb-png"}
        assert (run.train.network.name, run.train.mining.name) == ("googlenet", "nearest")
        assert run.train.mining.radius == 16


def test_the_schedule_of_open_ucn() -> None:
    train = RunConfig(**on_top_of("open-ucn")).train
    assert train.network.options == {"variant": "BN2D2", "dimension": 96}
    rates = [
        learning_rate(step, train.steps, train.optimiser.learning_rate, train.schedule)
        for step in (0, 2000, 100_000, 199_999)
    ]
    assert rates == pytest.approx([0.1, 0.099, 0.1 * 0.99**50, 0.1 * 0.99**100], rel=1e-3)


@pytest.mark.parametrize("name", ["table6", "figure5"])
def test_presets_of_one_run_share_shards_and_training(name: str) -> None:
    """They lie in one folder: whichever runs first makes the shards and the model of all."""
    folder = PRESETS[0].parent
    shared = yaml.safe_load((folder / "kitti-raw.yaml").read_text())
    preset = yaml.safe_load((folder / f"{name}.yaml").read_text())
    for part in ("out", "shards", "train"):
        assert preset[part] == shared[part]
    assert preset["evaluate"]["output"].startswith(f"{preset['out']}/")


def test_splits_called_train_something_are_trained_on_as_well() -> None:
    motorcycle = {"source": "motorcycle"}
    shards = {"train": motorcycle, "train_more": motorcycle, "test": motorcycle}
    values = {"out": "runs/x", "shards": shards, "train": {"data": {"weights": [3, 1]}}}
    run = RunConfig.model_validate(values)
    assert [Path(uri).name for uri in run.train.data.shards] == ["train", "train_more"]
    assert run.train.data.weights == (3, 1)
    assert [Path(uri).name for uri in run.evaluate.shards] == ["test"]
