from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.baselines.registry import BASELINES
from ucn.evaluation.methods.build import UCN, build_methods, method_labels, named_models
from ucn.preprocessing.sample import Sample
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
    assert bool(labels[0].reason) == (BASELINES.load("surf").unavailable() != "")
    assert [method.name for method in methods] == [
        label.name for label in labels if not label.reason
    ]


def test_network_describes_points_of_pixels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NetworkConfig(name="small", options={"dimension": 16, "width": 16})
    save_model(tmp_path / "model", build_network(network.name, network.options), network)
    methods = build_methods(config(model=str(tmp_path / "model"), baselines=("daisy",)))
    assert [method.name for method in methods] == [UCN, "daisy"]
    image = np.random.default_rng(0).integers(0, 256, (90, 120), dtype=np.uint8)
    assert methods[0].extract is not None
    described = methods[0].extract(image).at(np.float32([[0, 0], [60.25, 33.5], [119.5, 89.5]]))
    assert described.shape == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=1e-5)


def test_keypoint_matchers_get_the_samples_images(shifted: Callable[..., Sample]) -> None:
    (method,) = build_methods(config(baselines=("sparse-sift",), keypoints=50))
    assert method.match_pair is not None
    assert (method.extract, method.match) == (None, None)
    matches = method.match_pair(shifted((8, -6)))
    assert 20 < len(matches) <= 50
    moved = matches[:, 2:] - matches[:, :2]
    np.testing.assert_allclose(np.median(moved, axis=0), [8, -6], atol=0.05)


MINE = '''
import numpy as np
from ucn.evaluation.methods.baselines.base import Baseline, PointMatcher


class Nothing(Baseline):
    """Neither describes nor matches, and has no title."""


class Moved(PointMatcher):
    title = "moved points"
    by_px: float = 0.0

    def match(self, image0, image1, points0_N2):
        return points0_N2 + np.float32(self.by_px)
'''


@pytest.fixture
def my_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_baselines.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_baselines:Moved"


def test_a_baseline_of_ones_own_has_options_and_a_short_name(my_package: str) -> None:
    mine = config(baselines=("sift", my_package), baseline_options={my_package: {"by_px": 2}})
    assert [(label.name, label.title, label.prefix) for label in method_labels(mine)][1] == (
        "Moved",
        "moved points",
        "baseline/Moved/",
    )
    method = build_methods(mine)[1]
    assert method.match is not None
    image = np.zeros((4, 4), np.uint8)
    np.testing.assert_array_equal(method.match(image, image, np.float32([[1, 2]])), [[3, 4]])


def test_faults_of_a_baseline_of_ones_own_are_told(my_package: str) -> None:
    with pytest.raises(UserError, match="by_pixels"):
        build_methods(
            config(baselines=(my_package,), baseline_options={my_package: {"by_pixels": 2}})
        )
    with pytest.raises(UserError, match="sift"):
        config(baselines=(my_package,), baseline_options={"sift": {}})
    with pytest.raises(UserError, match="twice"):
        config(baselines=(my_package, "other:Moved"))
    with pytest.raises(UserError, match="NAME=FOLDER"):
        method_labels(config(model="Moved=x", baselines=(my_package,)))
    with pytest.raises(UserError, match="my_baselines:Absent"):
        method_labels(config(baselines=("my_baselines:Absent",)))
    assert method_labels(config(baselines=("my_baselines:Nothing",)))[0].title == "Nothing"
    with pytest.raises(UserError, match="PointMatcher"):
        build_methods(config(baselines=("my_baselines:Nothing",)))
