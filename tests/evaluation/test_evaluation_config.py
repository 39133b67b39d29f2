import subprocess
import sys

import pytest

from evaluation.config import EvaluateConfig
from preprocessing.errors import UserError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baselines": ()}, "--model or --baselines"),
        ({"baselines": ("sift", "sift")}, "--baselines"),
        ({"baselines": ("surf",)}, "sift"),
        ({"thresholds": (0,)}, "--thresholds"),
        ({"thresholds": (3, 3)}, "--thresholds"),
        ({"thresholds": ()}, "at least 1"),
        ({"shards": ()}, "at least 1"),
        ({"grid": 2}, "no such option"),
        ({"pose": {"estimators": ("lmeds",)}}, "poselib"),
    ],
)
def test_invalid_configurations_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        EvaluateConfig.model_validate({"shards": ("a",)} | change)


def test_importing_it_is_light() -> None:
    code = (
        "import sys, evaluation.config;"
        "print({'torch', 'ray', 'mlflow', 'numpy', 'cv2'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
