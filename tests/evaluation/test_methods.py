from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from ucn.errors import UserError
from ucn.evaluation.config import Baseline, EvaluateConfig
from ucn.evaluation.methods.baselines import DESCRIBERS, MATCHERS, TITLES, unavailable
from ucn.evaluation.methods.build import UCN, build_methods, method_labels, named_models
from ucn.training.config import NetworkConfig
from ucn.training.model import save_model
from ucn.training.networks import build_network


def config(**options: object) -> EvaluateConfig:
    return EvaluateConfig.model_validate({"shards": ("a",)} | options)


def test_models_are_named_after_what_tells_them_apart() -> None:
    assert named_models(["runs/a/train/model"]) == [(UCN, "runs/a/train/model")]
    assert named_models(["runs/a/train/model", "s3://b/c/model", "mine=x/model"]) == [
        ("a", "runs/a/train/model"),
        ("c", "s3://b/c/model"),
        ("mine", "x/model"),
    ]
    assert named_models(["./model", "../train/"]) == [("model", "./model"), ("train", "../train/")]


def test_only_the_first_model_has_plain_metrics() -> None:
    labels = method_labels(config(model=["a/model", "b/model"], baselines=("sift", "dis")))
    assert [(label.name, label.prefix, label.learned) for label in labels] == [
        ("a", "", True),
        ("b", "model/b/", True),
        ("sift", "baseline/sift/", False),
        ("dis", "baseline/dis/", False),
    ]
    assert labels[2].title == "dense SIFT"


@pytest.mark.parametrize("models", [["a=x", "a=y"], ["x/a/model", "y/a/model"], ["sift=x", "b"]])
def test_one_name_for_two_methods_is_refused(models: list[str]) -> None:
    with pytest.raises(UserError, match="NAME=FOLDER"):
        method_labels(config(model=models))


def test_what_is_not_there_keeps_its_row_and_reason() -> None:
    labels = method_labels(config(baselines=("surf", "sift")))
    methods = build_methods(config(baselines=("surf", "sift")))
    assert [label.name for label in labels] == ["surf", "sift"]
    assert bool(labels[0].reason) == (unavailable("surf") is not None)
    assert [method.name for method in methods] == [
        label.name for label in labels if not label.reason
    ]


def test_every_baseline_has_a_title_and_one_way_to_match() -> None:
    assert set(TITLES) == set(DESCRIBERS) | set(MATCHERS) | {"googlenet"}
    assert not set(DESCRIBERS) & set(MATCHERS)
    assert set(get_args(Baseline)) == set(TITLES)


def test_network_describes_points_of_pixels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NetworkConfig(name="small", options={"dimension": 16, "width": 16})
    save_model(tmp_path / "model", build_network(network.name, network.options), network)
    methods = build_methods(config(model=str(tmp_path / "model"), baselines=("daisy",)))
    assert [method.name for method in methods] == [UCN, "daisy"]
    image = np.random.default_rng(0).integers(0, 256, (90, 120), dtype=np.uint8)
    assert methods[0].describe is not None
    described = methods[0].describe(image, np.float32([[0, 0], [60.25, 33.5], [119.5, 89.5]]))
    assert described.shape == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=1e-5)
