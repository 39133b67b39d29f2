"""Every preset is valid, and its network can be built."""

from pathlib import Path

import pytest
import yaml

from ucn.pipeline.config import RunConfig
from ucn.training.config import TrainConfig
from ucn.training.networks import build_network

PRESETS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_preset(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    if "shards" in values:
        run = RunConfig.model_validate({"train": {}, "evaluate": {}} | values)
        train = run.train
        mixed = [split for split in run.shards if split.split("_")[0] == "train"]
        assert train.data.shards == tuple(run.shards[split].out for split in mixed)
    else:
        train = TrainConfig.model_validate(values)
    build_network(train.network.name, train.network.options)


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
