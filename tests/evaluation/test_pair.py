from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.baselines import BASELINES
from evaluation.config import EvaluateConfig, PoseConfig
from evaluation.pair import choose_points, evaluate_method, known_geometry, pair_moves
from preprocessing.sample import Sample

CONFIG = EvaluateConfig(shards=("unused",))


@given(st.integers(1, 200), st.integers(1, 120), st.integers(0, 99), st.integers(0, 10**6))
def test_points_are_a_seeded_sample_without_repetition(
    number: int, count: int, seed: int, index: int
) -> None:
    truth = np.arange(4 * number, dtype=np.float32).reshape(number, 4)
    chosen = choose_points(truth, count, seed, index)
    assert len(chosen) == min(number, count)
    assert set(map(tuple, chosen.tolist())) <= set(map(tuple, truth.tolist()))
    assert len(np.unique(chosen[:, 0])) == len(chosen)
    np.testing.assert_array_equal(chosen, choose_points(truth, count, seed, index))


def test_pairs_and_seeds_draw_differently() -> None:
    truth = np.arange(4000, dtype=np.float32).reshape(1000, 4)
    draws = [choose_points(truth, 50, seed, index) for seed, index in ((0, 0), (0, 1), (1, 0))]
    assert len({draw.tobytes() for draw in draws}) == 3


def test_rigid_pair_has_errors_and_poses(rigid: Callable[..., Sample]) -> None:
    sample = rigid(12)
    truth = choose_points(sample.matches_N4, 200, 0, 0)
    found = evaluate_method(sample, truth, BASELINES["daisy"], CONFIG)
    np.testing.assert_array_equal(found.matches_N4[:, :2], truth[:, :2])
    np.testing.assert_allclose(
        found.errors_N, np.linalg.norm(found.matches_N4[:, 2:] - truth[:, 2:], axis=1), atol=1e-5
    )
    assert np.median(found.errors_N) < 2
    assert set(found.poses) == set(CONFIG.pose.estimators)
    assert all(len(errors) == len(CONFIG.pose.seeds) for errors in found.poses.values())


@pytest.mark.parametrize("change", [{"kind": "flow"}, {"K0": None}, {"T_1_0": None}])
def test_pairs_without_geometry_have_no_pose(
    change: dict[str, object], rigid: Callable[..., Sample]
) -> None:
    sample = rigid(12)
    sample.metadata.update(change)
    found = evaluate_method(sample, sample.matches_N4[:40], BASELINES["daisy"], CONFIG)
    assert found.poses == {}


@pytest.mark.parametrize(
    ("unit", "shift", "moves"),
    [
        ("metre", 12, True),
        ("metre", 1, False),  # 0.025 m
        ("model", 1, True),  # one pixel of parallax, in a unit that says nothing
        ("model", 0, False),
    ],
)
def test_standing_pairs(unit: str, shift: int, moves: bool, rigid: Callable[..., Sample]) -> None:
    sample = rigid(shift)
    sample.metadata["unit"] = unit
    geometry = known_geometry(sample)
    assert geometry is not None
    # The projection is exact up to float64; a hair under one pixel is still one pixel.
    config = PoseConfig(min_parallax_px=0.999)
    assert pair_moves(sample.matches_N4, geometry, config) is moves
