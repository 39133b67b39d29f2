import re
import subprocess
import sys

import pytest

from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.baselines.registry import BASELINES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baselines": ()}, "--model or --baselines"),
        ({"baselines": ("sift", "sift")}, "--baselines"),
        ({"baselines": ("sirf",)}, "did you mean s"),
        ({"baseline_options": {"orb": {}}}, "--baselines"),
        ({"matching": {"pose_queries": ("sift", "sift")}}, "--matching.pose-queries"),
        ({"baselines": ("googlenet",)}, "--googlenet-weights"),
        ({"googlenet_weights": "weights.pth"}, "--baselines googlenet"),
        ({"displacement_bins_px": (10, 5)}, "--displacement-bins-px"),
        ({"depth_bins_m": (float("inf"),)}, "--depth-bins-m"),
        ({"alphas": (0,)}, "--alphas"),
        ({"sparse": ("harris",)}, "fast"),
        ({"thresholds": (0,)}, "--thresholds"),
        ({"thresholds": (3, 3)}, "--thresholds"),
        ({"thresholds": ()}, "at least 1"),
        ({"shards": ()}, "--shards or --patches"),
        ({"grid": 2}, "no such option"),
        ({"pose": {"estimators": ("lmeds",)}}, "poselib"),
        ({"pose": {"thresholds_px": (1, 0)}}, "--pose.thresholds-px"),
    ],
)
def test_invalid_configurations_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        EvaluateConfig.model_validate({"shards": ("a",)} | change)


def test_one_value_stands_for_several() -> None:
    config = EvaluateConfig.model_validate({"shards": ("a",), "model": "runs/model"})
    assert config.model == ("runs/model",)
    assert EvaluateConfig.model_validate({"shards": ("a",), "model": None}).model == ()


def test_help_names_every_baseline() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ucn.pipeline.main", "evaluate", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(BASELINES.builtin) <= set(re.findall(r"[\w-]+", run.stdout))


def test_importing_it_is_light() -> None:
    code = (
        "import sys, ucn.evaluation.config;"
        "print({'torch', 'ray', 'mlflow', 'numpy', 'cv2'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
