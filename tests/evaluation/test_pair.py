from collections.abc import Callable

import numpy as np
import pytest

from ucn.evaluation.config import EvaluateConfig, PoseConfig
from ucn.evaluation.methods.baselines.opencv_descriptors import Daisy
from ucn.evaluation.methods.baselines.registry import BASELINES
from ucn.evaluation.methods.build import Method
from ucn.evaluation.methods.filter_scores import FILTERS
from ucn.evaluation.pair import MethodOnPair, evaluate_method, evaluate_planar, pair_moves
from ucn.evaluation.truth import known_geometry, pair_truth
from ucn.matching.descriptors import unit_rows
from ucn.preprocessing.sample import Sample

CONFIG = EvaluateConfig(shards=("unused",), points=200)
DAISY = Method("daisy", describe=Daisy().describe)


def evaluated(sample: Sample, method: Method = DAISY, **options: object) -> MethodOnPair:
    config = EvaluateConfig.model_validate({"shards": ("unused",), "points": 200} | options)
    return evaluate_method(sample, pair_truth(sample, 0, config), method, config, 0)


def test_rigid_pair_has_errors_and_poses(rigid: Callable[..., Sample]) -> None:
    sample = rigid(12)
    truth = pair_truth(sample, 0, CONFIG).truth_N4
    found = evaluated(sample)
    np.testing.assert_array_equal(found.matches_N4[:, :2], truth[:, :2])
    np.testing.assert_allclose(
        found.errors_N, np.linalg.norm(found.matches_N4[:, 2:] - truth[:, 2:], axis=1), atol=1e-5
    )
    assert np.median(found.errors_N) < 2
    assert set(found.poses) == set(CONFIG.pose.estimators)
    assert all(len(errors) == len(CONFIG.pose.seeds) for errors in found.poses.values())


def test_inlier_thresholds_are_swept(rigid: Callable[..., Sample]) -> None:
    pose = {"estimators": ("poselib",), "thresholds_px": (1.0, 0.25), "seeds": (4,)}
    swept = evaluated(rigid(12), pose=pose).poses
    assert list(swept) == ["poselib", "poselib/threshold_0.25"]
    alone = evaluated(rigid(12), pose=pose | {"thresholds_px": 0.25}).poses
    assert alone["poselib"] == swept["poselib/threshold_0.25"]


@pytest.mark.parametrize("change", [{"kind": "flow"}, {"K0": None}, {"T_1_0": None}])
def test_pairs_without_geometry_have_no_pose(
    change: dict[str, object], rigid: Callable[..., Sample]
) -> None:
    sample = rigid(12)
    sample.metadata.update(change)
    assert evaluated(sample).poses == {}


def test_direct_matcher_that_finds_every_other_point(shifted: Callable[..., Sample]) -> None:
    def match(image0: np.ndarray, image1: np.ndarray, points: np.ndarray) -> np.ndarray:
        way = np.float32([5, 3] if image0 is sample.image0 else [-5, -3])
        moved = points + way
        if image0 is sample.image0:
            moved[::2] = np.nan
        return moved

    sample = shifted((5, 2))
    found = evaluated(sample, Method("flow", match=match), filters=True)
    assert np.isinf(found.errors_N[::2]).all()
    np.testing.assert_allclose(found.errors_N[1::2], 1, atol=1e-5)
    assert not found.reciprocal_N[::2].any()
    assert found.reciprocal_N[1::2].all()
    assert list(found.scores) == ["reciprocity"]
    np.testing.assert_array_equal(found.scores["reciprocity"][::2], -np.inf)


def test_every_filter_scores_every_match(shifted: Callable[..., Sample]) -> None:
    found = evaluated(shifted((6, 4)), filters=True)
    assert tuple(found.scores) == FILTERS
    assert all(np.isfinite(one).all() and len(one) == 200 for one in found.scores.values())
    assert found.scores["similarity"].max() <= 1 + 1e-5
    assert -1 - 1e-5 <= found.scores["ratio"].min() <= found.scores["ratio"].max() <= 0
    np.testing.assert_array_equal(found.scores["reciprocity"] >= -4, found.reciprocal_N)
    again = evaluated(shifted((6, 4)), filters=True)
    for name, scores in found.scores.items():
        np.testing.assert_array_equal(scores, again.scores[name])


def test_sparse_protocol_searches_keypoints_only(shifted: Callable[..., Sample]) -> None:
    sample = shifted((6, 4), size=(200, 150))
    config = CONFIG.model_copy(update={"sparse": ("given", "sift"), "keypoints": 300})
    truth = pair_truth(sample, 0, config)
    found = evaluate_method(sample, truth, DAISY, config, 0)
    # A match is one of the true points, which are whole pixels at least 3 px apart.
    given = found.sparse["given"]
    assert len(given) == 200
    assert (given < 0.01).mean() > 0.9
    assert ((given < 0.01) | (given > 2.99)).all()
    assert len(found.sparse["sift"]) == truth.sparse["sift"].asked_N.sum() > 5
    assert (found.sparse["sift"] >= truth.facts.bounds["sift"] - 1e-4).all()
    assert evaluated(sample).sparse == {}


def test_planar_pair_of_a_shift(shifted: Callable[..., Sample]) -> None:
    sample = shifted((6, 4), size=(200, 150))
    H_1_0 = np.float64([[1, 0, 6], [0, 1, 4], [0, 0, 1]])
    found = evaluate_planar(sample, H_1_0, BASELINES.load("sift")().describe, CONFIG)
    assert (found.transfer_errors_N < 1).mean() > 0.8
    assert set(found.corner_errors) == set(CONFIG.pose.estimators)
    assert all(max(errors) < 1 for errors in found.corner_errors.values())


@pytest.mark.parametrize("name", ["sift", "hog", "daisy"])
def test_identity_is_perfect(name: str, shifted: Callable[..., Sample]) -> None:
    sample = shifted((0, 0))
    method = Method(name, describe=BASELINES.load(name)().describe)
    whole = evaluated(sample, method, matching={"grid_step": 1, "subpixel": False})
    assert not whole.errors_N.any()
    # A parabola moves a match by half a step of the grid at the most.
    finer = evaluated(sample, method, matching={"grid_step": 1})
    assert finer.errors_N.max() <= 0.5**0.5
    assert np.median(finer.errors_N) < 0.15


def test_descriptor_of_noise_finds_its_share(shifted: Callable[..., Sample]) -> None:
    """Of M positions tried at random, the share within T px is the disc's share of the image."""
    rng = np.random.default_rng(7)

    def noise(image: np.ndarray, points: np.ndarray) -> np.ndarray:
        return unit_rows(rng.standard_normal((len(points), 16)))

    found = evaluated(shifted((0, 0)), Method("noise", describe=noise))
    # pi * 10^2 of 120 x 90 pixels is 2.9 %, less at borders; 200 points.
    assert (found.errors_N <= 10).mean() < 0.09
    assert np.median(found.errors_N) > 20


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
