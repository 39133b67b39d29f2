"""The state of an evaluation: partial results, and the mark of finished ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.report.summary import MethodResult, PairResult
from ucn.evaluation.scores.planar import PlanarErrors
from ucn.evaluation.scores.pose import PoseError
from ucn.evaluation.state import (
    EvaluationState,
    Finished,
    _options_0_1_0,
    decode_result,
    encode_result,
)
from ucn.evaluation.truth import PointFacts
from ucn.preprocessing.shards.format import digest


def a_result(seed: int) -> PairResult:
    rng = np.random.default_rng(seed)
    errors = rng.exponential(size=5).astype(np.float32)
    errors[0] = np.inf
    poses = {"poselib": (PoseError(*rng.exponential(size=2)), PoseError(1.5, None))}
    method = MethodResult(
        errors, 3, poses, {"sift": errors[1:]}, {"ratio": -rng.random(5).astype(np.float32)}
    )
    facts = PointFacts(rng.random(5), np.full(5, np.nan), ("car",) * 5, {"box": rng.random()})
    planar = {"sift": PlanarErrors(rng.random(3), {"poselib": (np.inf, rng.random())})}
    return PairResult(7, "a-\u00e9", "drive", facts, {"sift": method}, planar)


def assert_equal(one: object, two: object) -> None:
    """Equal in every bit, arrays and their types included."""
    assert type(one) is type(two)
    if isinstance(one, np.ndarray):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert_equal(value, two[key])
    elif hasattr(one, "__dataclass_fields__"):
        assert_equal(vars(one), vars(two))
    else:
        assert one == two


@given(st.integers(0, 2**32 - 1))
def test_what_was_written_is_read(seed: int) -> None:
    assert_equal(decode_result(encode_result(a_result(seed))), a_result(seed))


def test_only_results_of_the_same_evaluation_are_read(tmp_path: Path) -> None:
    first = EvaluationState(tmp_path / "out", ["a" * 64])
    assert first.read_pair(0, 7) is None
    first.write_pair(0, a_result(1))
    assert_equal(first.read_pair(0, 7), a_result(1))
    assert first.read_pair(1, 7) is None
    assert EvaluationState(tmp_path / "out", ["b" * 64]).read_pair(0, 7) is None
    (tmp_path / "out").mkdir()
    first.finish("run")
    assert first.read_pair(0, 7) is None
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("damage", [b"", b"PK", b"no archive at all"])
def test_damaged_results_are_made_again(damage: bytes, tmp_path: Path) -> None:
    pairs = EvaluationState(tmp_path / "out", ["a" * 64])
    pairs.write_pair(0, a_result(1))
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(damage or path.read_bytes()[:-200])
    assert pairs.read_pair(0, 7) is None


def test_finished_results_are_those_of_the_same_evaluation(tmp_path: Path) -> None:
    state = EvaluationState(tmp_path, ["a" * 64])
    assert state.finished() is None
    state.finish("run")
    assert state.finished() == Finished("run")
    assert EvaluationState(tmp_path, ["b" * 64]).finished() is None
    state.begin()
    assert state.finished() is None


def test_the_state_of_an_earlier_version_is_recognised(tmp_path: Path) -> None:
    """By the second of the fingerprints."""
    earlier = EvaluationState(tmp_path / "out", ["a" * 64])
    earlier.write_pair(0, a_result(1))
    now = EvaluationState(tmp_path / "out", ["b" * 64, "a" * 64])
    assert now.read_pair(0, 7) is not None
    (tmp_path / "out").mkdir()
    earlier.finish("run")
    assert now.finished() == Finished("run")


def test_options_of_version_0_1_0_give_its_digest() -> None:
    """The file was written with version 0.1.0."""
    stored = json.loads((Path(__file__).parents[1] / "version_0_1_0.json").read_text())
    config = EvaluateConfig.model_validate(stored["evaluation"]["configuration"])
    assert digest(_options_0_1_0(config)) == stored["evaluation"]["digest of the options"]
