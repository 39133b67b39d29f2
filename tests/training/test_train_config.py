"""Training configuration: refusals name the field and the remedy."""

import subprocess
import sys
from typing import Any

import pytest

from ucn.errors import UserError
from ucn.training.config import TrainConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 4, "workers": 3}, r"workers: 3 share 2 groups of 2.*lower workers"),
        ({"workers": 2, "min_workers": 3}, r"min_workers: 3, but workers: 2.*lower min_workers"),
        ({"min_workers": 0}, r"min_workers: "),
        ({"device": "tpu"}, r"device: "),
        ({"batch_size": 6, "group_size": 4}, r"group_size: .*set batch_size to a multiple"),
        (
            {"batch_size": 3, "mining": {"cross_pair_negatives": True}},
            r"mining\.cross_pair_negatives: .*raise group_size",
        ),
        ({"loss": {"name": "dual_softmax"}, "mining": {"name": "random"}}, r"dual_softmax.*hard"),
        ({"loss": {"name": "infonce"}, "mining": {"name": "random"}}, r"mining\.name.*hard"),
        ({"loss": {"name": "infonce"}, "mining": {"name": "nearest"}}, r"mining\.name.*hard"),
        ({"schedule": {"decay": "exponential"}}, r"schedule\.final_fraction: 0.*raise it"),
        ({"mining": {"radius": 200}}, r"mining\.radius.*lower"),
        ({"lr": 1}, "lr"),
        ({"optimiser": {"learning_rate": -1}}, r"learning_rate: "),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"(?s){message}"):
        TrainConfig.model_validate(values)


def test_fingerprint_tells_what_decides_the_model() -> None:
    base = TrainConfig()
    other_place = base.model_copy(
        update={"output": "elsewhere", "workers": 2, "min_workers": 1, "device": "cpu"}
    )
    assert base.fingerprint("a", "b") == other_place.fingerprint("a", "b")
    assert base.fingerprint("a", "b") != base.fingerprint("c", "b")
    changed = base.model_copy(update={"seed": 1})
    assert base.fingerprint("a", "b") != changed.fingerprint("a", "b")
    spelt_out = base.model_copy(update={"group_size": 2})
    assert base.fingerprint("a", "b") == spelt_out.fingerprint("a", "b")


def test_one_folder_of_shards_is_a_list_of_one() -> None:
    config = TrainConfig.model_validate({"data": {"shards": "here"}})
    assert config.data.shards == ("here",)


def test_configuration_is_light_to_import() -> None:
    code = "import sys, ucn.training.config; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"torch", "ray", "mlflow", "numpy", "cv2"} & set(loaded.stdout.split())
