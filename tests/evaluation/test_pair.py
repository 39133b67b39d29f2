from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.matches import MUTUAL, OWN, POINT, Matches
from ucn.evaluation.methods.baselines.dense_hog import Hog
from ucn.evaluation.methods.baselines.dense_sift import describe_sift
from ucn.evaluation.methods.baselines.opencv_descriptors import Daisy
from ucn.evaluation.methods.build import Method
from ucn.evaluation.pair import match_pair, pair_queries
from ucn.evaluation.truth import pair_truth
from ucn.matching.descriptors import Describe, unit_rows
from ucn.matching.scales import dense_descriptor, extract
from ucn.preprocessing.sample import Sample

CONFIG = EvaluateConfig(shards=("unused",), points=200)


def dense(describe: Describe, step: int = 2) -> Method:
    return Method("dense", extract=partial(extract, describe=dense_descriptor(describe, step)))


DAISY = dense(Daisy().describe)


def matched(sample: Sample, method: Method = DAISY, **options: object) -> dict[str, Matches]:
    config = EvaluateConfig.model_validate({"shards": ("unused",), "points": 200} | options)
    queries = pair_queries(sample, pair_truth(sample, 0, config), 0, config)
    return match_pair(sample, method, queries, config)


def errors(sample: Sample, found: Matches) -> np.ndarray:
    truth = pair_truth(sample, 0, CONFIG).truth_N4
    np.testing.assert_array_equal(found.matches_N4[:, :2], truth[:, :2])
    return np.linalg.norm(found.matches_N4[:, 2:] - truth[:, 2:], axis=1)


def test_points_of_a_rigid_pair_are_matched_there_and_back(rigid: Callable[..., Sample]) -> None:
    found = matched(rigid(12))
    assert list(found) == [POINT]
    assert np.median(errors(rigid(12), found[POINT])) < 2
    assert np.isfinite(found[POINT].back_px_N).all()
    assert np.isfinite(found[POINT].similarity_N).all()
    assert np.isnan(found[POINT].second_N).all()
    assert np.isnan(found[POINT].stability_px_N).all()


@pytest.mark.parametrize("change", [{"kind": "flow"}, {"K0": None}, {"T_1_0": None}])
def test_pairs_without_pose_are_not_searched_back(
    change: dict[str, object], rigid: Callable[..., Sample]
) -> None:
    sample = rigid(12)
    sample.metadata.update(change)
    found = matched(sample, matching={"pose_queries": ("stored", "sift")})
    assert list(found) == [POINT]
    assert np.isnan(found[POINT].back_px_N).all()
    np.testing.assert_array_equal(found[POINT].matches_N4, matched(rigid(12))[POINT].matches_N4)
    assert np.isnan(matched(rigid(12), matching={"pose_queries": ()})[POINT].back_px_N).all()


def test_images_are_described_once_for_all_queries(rigid: Callable[..., Sample]) -> None:
    calls = []

    def describe(image: np.ndarray, points: np.ndarray) -> np.ndarray:
        calls.append(len(points))
        return Daisy().describe(image, points)

    sample = rigid(12)
    sample.metadata["H_1_0"] = [[1, 0, 12], [0, 1, 0], [0, 0, 1]]
    queries = ("stored", "sift", "fast", "corners", "grid")
    options = {"sparse": ("sift", "given"), "keypoints": 150, "matching": {"pose_queries": queries}}
    found = matched(sample, dense(describe), **options)
    assert len(calls) == 2
    assert set(found) == {POINT, *queries[1:], "sparse/sift", "sparse/given", MUTUAL}
    assert all(20 < len(found[name].matches_N4) <= 150 for name in queries[1:])
    # Further queries change nothing for the points.
    alone = matched(rigid(12))[POINT]
    for column, expected in zip(vars(found[POINT]).values(), vars(alone).values(), strict=True):
        np.testing.assert_allclose(column, expected, atol=1e-5)


def test_queries_of_a_detector_follow_the_shift(rigid: Callable[..., Sample]) -> None:
    found = matched(rigid(12), matching={"pose_queries": ("corners",)})["corners"]
    inside = found.matches_N4[:, 0] < 100
    move = found.matches_N4[inside, 2:] - found.matches_N4[inside, :2]
    assert (np.abs(move - (12, 0)).max(axis=1) < 1).mean() > 0.8


def test_direct_matcher_that_finds_every_other_point(shifted: Callable[..., Sample]) -> None:
    def match(image0: np.ndarray, image1: np.ndarray, points: np.ndarray) -> np.ndarray:
        way = np.float32([5, 3] if image0 is sample.image0 else [-5, -3])
        moved = points + way
        if image0 is sample.image0:
            moved[::2] = np.nan
        return moved

    sample = shifted((5, 2))
    found = matched(sample, Method("flow", match=match), filters=True)[POINT]
    assert np.isnan(errors(sample, found)[::2]).all()
    np.testing.assert_allclose(errors(sample, found)[1::2], 1, atol=1e-5)
    assert np.isposinf(found.back_px_N[::2]).all()
    np.testing.assert_allclose(found.back_px_N[1::2], 0, atol=1e-5)
    assert np.isnan(found.similarity_N).all()


def test_own_matches_answer_points_within_two_pixels(rigid: Callable[..., Sample]) -> None:
    sample = rigid(12)
    points = pair_truth(sample, 0, CONFIG).truth_N4
    near = points + np.float32([2, 0, 1, 0])
    far = points + np.float32([0, 2.01, 0, 0])
    own = np.concatenate([near[:1], far[1:2]])
    found = matched(sample, Method("sparse", match_pair=lambda one: own))
    answers = found[POINT].matches_N4
    np.testing.assert_array_equal(found[OWN].matches_N4, own)
    np.testing.assert_array_equal(answers[0, 2:], near[0, 2:])
    unanswered = np.linalg.norm(points[:, None, :2] - own[None, :, :2], axis=2).min(axis=1) > 2
    assert unanswered[1]
    np.testing.assert_array_equal(np.isnan(answers[:, 2]), unanswered)
    nothing = matched(sample, Method("sparse", match_pair=lambda one: own[:0]))
    assert np.isnan(nothing[POINT].matches_N4[:, 2:]).all()


def test_filters_compute_every_column(shifted: Callable[..., Sample]) -> None:
    found, again = (matched(shifted((6, 4)), filters=True)[POINT] for _ in range(2))
    for column, repeated in zip(vars(found).values(), vars(again).values(), strict=True):
        assert np.isfinite(column).all()
        assert len(column) == 200
        np.testing.assert_array_equal(column, repeated)
    assert (found.second_N <= found.similarity_N + 1e-6).mean() > 0.9
    assert found.similarity_N.max() <= 1 + 1e-5


def test_sparse_protocol_searches_keypoints_only(shifted: Callable[..., Sample]) -> None:
    sample = shifted((6, 4), size=(200, 150))
    options = {"sparse": ("given", "sift"), "keypoints": 300}
    truth = pair_truth(sample, 0, CONFIG.model_copy(update=options))
    found = matched(sample, **options)
    # A match is one of the true points, which are whole pixels at least 3 px apart.
    given = errors(sample, found["sparse/given"])
    assert (given < 0.01).mean() > 0.9
    assert ((given < 0.01) | (given > 2.99)).all()
    task = truth.sparse["sift"]
    asked = found["sparse/sift"].matches_N4
    np.testing.assert_array_equal(asked[:, :2], truth.truth_N4[task.asked_N, :2])
    assert len(asked) > 5
    assert {tuple(end) for end in asked[:, 2:]} <= {tuple(end) for end in task.points1_K2}


def test_keypoints_of_a_planar_pair_are_matched_mutually(shifted: Callable[..., Sample]) -> None:
    sample = shifted((6, 4), size=(200, 150))
    assert MUTUAL not in matched(sample)
    sample.metadata["H_1_0"] = [[1, 0, 6], [0, 1, 4], [0, 0, 1]]
    mutual = matched(sample, dense(describe_sift))[MUTUAL].matches_N4
    move = mutual[:, 2:] - mutual[:, :2]
    assert (np.linalg.norm(move - (6, 4), axis=1) < 1).mean() > 0.8


@pytest.mark.parametrize("describe", [describe_sift, Hog().describe, Daisy().describe])
@pytest.mark.parametrize("step", [1, 2, 4])
def test_identity_is_found_between_pixels(
    describe: Describe, step: int, shifted: Callable[..., Sample]
) -> None:
    sample = shifted((0, 0))
    sample.matches_N4[:] += np.float32(0.3)
    inner_N = (sample.matches_N4 > 4).all(axis=1) & (sample.matches_N4 < 80).all(axis=1)
    sample = replace(sample, matches_N4=sample.matches_N4[inner_N])
    found = matched(sample, dense(describe, step), matching={"grid_step": step})[POINT]
    assert errors(sample, found).max() < 0.01


def test_descriptor_of_noise_finds_its_share(shifted: Callable[..., Sample]) -> None:
    """Of M positions tried at random, the share within T px is the disc's share of the image."""
    rng = np.random.default_rng(7)

    def noise(image: np.ndarray, points: np.ndarray) -> np.ndarray:
        return unit_rows(rng.standard_normal((len(points), 16)))

    sample = shifted((0, 0))
    found = errors(sample, matched(sample, dense(noise))[POINT])
    # pi * 10^2 of 120 x 90 pixels is 2.9 %, less at borders; 200 points.
    assert (found <= 10).mean() < 0.09
    assert np.median(found) > 20
