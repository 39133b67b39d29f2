"""Scores of stored matches, in closed form: no images are matched."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ucn.evaluation.config import EvaluateConfig, PoseConfig
from ucn.evaluation.matches import MUTUAL, OWN, POINT, Matches, PairMatches
from ucn.evaluation.report.summary import MethodResult
from ucn.evaluation.score import (
    filter_scores,
    pair_moves,
    reciprocal,
    score_method,
    score_planar,
)
from ucn.evaluation.truth import known_geometry, pair_truth
from ucn.matching.filters import FILTERS
from ucn.preprocessing.sample import Sample


def scored(sample: Sample, found: PairMatches, **options: object) -> MethodResult:
    config = EvaluateConfig.model_validate({"shards": ("unused",)} | options)
    return score_method(pair_truth(sample, 0, config), found, config)


def perfect(sample: Sample, **columns: object) -> Matches:
    found = Matches.bare(pair_truth(sample, 0, EvaluateConfig(shards=("unused",))).truth_N4.copy())
    return replace(found, **columns)


def test_errors_are_distances_and_infinite_without_a_match(shifted: Callable[..., Sample]) -> None:
    found = perfect(shifted((5, 2)))
    found.matches_N4[0, 2:] += (3, 4)
    found.matches_N4[1, 2:] = np.nan
    result = scored(shifted((5, 2)), {POINT: found})
    np.testing.assert_array_equal(result.errors_N[:3], [5, np.inf, 0])
    assert result.reciprocal == len(result.errors_N) - 1
    assert (result.poses, result.sparse, result.scores) == ({}, {}, {})


def test_the_reciprocity_radius_is_applied_to_stored_errors() -> None:
    found = replace(
        Matches.bare(np.float32([[0, 0, 1, 1]] * 3 + [[0, 0, np.nan, np.nan]])),
        back_px_N=np.float32([3, 5, np.nan, np.inf]),
    )
    assert reciprocal(found, 4).tolist() == [True, False, True, False]
    assert reciprocal(found, 2).tolist() == [False, False, True, False]
    assert reciprocal(found, 0).tolist() == [True, True, True, False]


def test_pose_uses_reciprocal_matches_only(rigid: Callable[..., Sample]) -> None:
    number = len(perfect(rigid(12)).matches_N4)
    is_wrong = np.arange(number) % 3 > 0
    back = np.where(is_wrong, 5, 0).astype(np.float32)
    found = perfect(rigid(12), back_px_N=back)
    rng = np.random.default_rng(0)
    found.matches_N4[is_wrong, 2:] = rng.uniform(0, 90, (is_wrong.sum(), 2))
    poses = scored(rigid(12), {POINT: found}).poses
    assert set(poses) == {"opencv-magsac", "poselib", "opencv-ransac"}
    assert all(len(errors) == 3 for errors in poses.values())
    right = Matches.bare(found.matches_N4[~is_wrong])
    assert poses == scored(rigid(12), {POINT: found, OWN: right}).poses
    # Without a single reciprocal match there is no estimate.
    failed = scored(rigid(12), {POINT: replace(found, back_px_N=back + 9)}).poses
    assert {error.rotation_deg for errors in failed.values() for error in errors} == {180}


def test_inlier_thresholds_are_swept(rigid: Callable[..., Sample]) -> None:
    pose = {"estimators": ("poselib",), "thresholds_px": (1.0, 0.25), "seeds": (4,)}
    found = perfect(rigid(12))
    found.matches_N4[:, 2:] += np.random.default_rng(1).normal(
        0, 0.5, found.matches_N4[:, 2:].shape
    )
    swept = scored(rigid(12), {POINT: found}, pose=pose).poses
    assert list(swept) == ["poselib", "poselib/threshold_0.25"]
    alone = scored(rigid(12), {POINT: found}, pose=pose | {"thresholds_px": 0.25}).poses
    assert alone["poselib"] == swept["poselib/threshold_0.25"]


def test_pose_of_a_detectors_queries_stands_beside_that_of_points(
    rigid: Callable[..., Sample],
) -> None:
    right = perfect(rigid(12))
    found = {POINT: right, "sift": Matches.bare(right.matches_N4[:4])}
    pose = {"estimators": ("poselib",), "seeds": (0,)}
    both = scored(rigid(12), found, pose=pose, matching={"pose_queries": ("stored", "sift")}).poses
    assert list(both) == ["poselib", "sift:poselib"]
    assert both["poselib"][0].rotation_deg < 10  # the scene is a plane
    assert both["sift:poselib"][0].rotation_deg == 180  # too few matches
    sift = scored(rigid(12), found, pose=pose, matching={"pose_queries": ("sift",)}).poses
    assert sift == {"poselib": both["sift:poselib"]}
    own = found | {OWN: right}
    assert scored(rigid(12), own).own == len(right.matches_N4)
    assert scored(rigid(12), found).own is None
    served = scored(rigid(12), own, pose=pose, matching={"pose_queries": ("sift", "stored")}).poses
    assert served == {"poselib": both["poselib"], "stored:poselib": both["poselib"]}


@pytest.mark.parametrize("change", [{"kind": "flow"}, {"K0": None}, {"T_1_0": None}])
def test_pairs_without_geometry_have_no_pose(
    change: dict[str, object], rigid: Callable[..., Sample]
) -> None:
    sample = rigid(12)
    sample.metadata.update(change)
    assert scored(sample, {POINT: perfect(sample)}).poses == {}


def test_sparse_errors_are_those_of_the_asked_points(shifted: Callable[..., Sample]) -> None:
    sample = shifted((6, 4), size=(200, 150))
    options = {"sparse": ("sift", "given"), "keypoints": 300}
    config = EvaluateConfig.model_validate({"shards": ("unused",)} | options)
    truth = pair_truth(sample, 0, config)
    asked = truth.truth_N4[truth.sparse["sift"].asked_N] + np.float32([0, 0, 0, 2])
    given = truth.truth_N4.copy()
    found = {POINT: perfect(sample), "sparse/sift": Matches.bare(asked)}
    result = scored(sample, found | {"sparse/given": Matches.bare(given)}, **options)
    np.testing.assert_array_equal(result.sparse["sift"], np.full(len(asked), 2))
    assert not result.sparse["given"].any()
    assert scored(sample, {POINT: perfect(sample)}, **options).sparse == {}


def test_filters_score_what_was_computed() -> None:
    points = replace(
        Matches.bare(np.zeros((3, 4), np.float32)),
        similarity_N=np.float32([1, 0.5, 0.5]),
        second_N=np.float32([0.5, 0.5, -1]),
        back_px_N=np.float32([0, 3, np.inf]),
        stability_px_N=np.float32([1, 2, 3]),
    )
    scores = filter_scores(points)
    assert tuple(scores) == FILTERS
    # Distances are sqrt(2 - 2 cos): 0, 1 and 2 for cosines of 1, 0.5 and -1.
    np.testing.assert_allclose(scores["ratio"], [0, -1, -0.5])
    np.testing.assert_array_equal(scores["reciprocity"], [0, -3, -np.inf])
    np.testing.assert_array_equal(scores["stability"], [-1, -2, -3])
    nan = np.full(3, np.nan, np.float32)
    flow = replace(points, similarity_N=nan, second_N=nan, stability_px_N=nan)
    assert list(filter_scores(flow)) == ["reciprocity"]


def test_planar_errors_of_keypoints_and_of_own_matches(shifted: Callable[..., Sample]) -> None:
    sample = shifted((6, 4), size=(200, 150))
    config = EvaluateConfig(shards=("unused",))
    matches = Matches.bare(sample.matches_N4 + np.float32([0, 0, 0.5, 0]))
    assert score_planar(sample, {MUTUAL: matches}, config) is None
    sample.metadata["H_1_0"] = [[1, 0, 6], [0, 1, 4], [0, 0, 1]]
    for kind in (MUTUAL, OWN):
        found = score_planar(sample, {kind: matches}, config)
        assert found is not None
        np.testing.assert_allclose(found.transfer_errors_N, 0.5, atol=1e-5)
        assert set(found.corner_errors) == set(config.pose.estimators)
        assert found.corner_errors["poselib"] == pytest.approx((0.5,) * 3, abs=1e-3)
    assert score_planar(sample, {POINT: matches}, config) is None


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
