from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.evaluation.report.summary import MethodResult, PairResult
from ucn.evaluation.scores.planar import PlanarErrors
from ucn.evaluation.scores.pose import PoseError
from ucn.evaluation.truth import PointFacts
from ucn.evaluation.unfinished import UnfinishedPairs, decode_result, encode_result


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
    first = UnfinishedPairs(tmp_path / "out", "a" * 64)
    assert first.read(0, 7) is None
    first.write(0, a_result(1))
    assert_equal(first.read(0, 7), a_result(1))
    assert first.read(1, 7) is None
    assert UnfinishedPairs(tmp_path / "out", "b" * 64).read(0, 7) is None
    first.remove()
    assert first.read(0, 7) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"PK", b"no archive at all"])
def test_damaged_results_are_made_again(damage: bytes, tmp_path: Path) -> None:
    pairs = UnfinishedPairs(tmp_path / "out", "a" * 64)
    pairs.write(0, a_result(1))
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(damage or path.read_bytes()[:-200])
    assert pairs.read(0, 7) is None
