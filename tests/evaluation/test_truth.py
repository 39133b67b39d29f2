from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.truth import choose_points, pair_truth
from ucn.preprocessing.sample import Sample

CONFIG = EvaluateConfig(shards=("unused",), points=100)


@given(st.integers(1, 200), st.integers(1, 120), st.integers(0, 99), st.integers(0, 10**6))
def test_points_are_a_seeded_sample_without_repetition(
    number: int, count: int, seed: int, index: int
) -> None:
    chosen = choose_points(number, count, seed, index).tolist()
    assert len(set(chosen)) == len(chosen) == min(number, count)
    assert chosen == sorted(chosen)
    assert set(chosen) <= set(range(number))
    assert chosen == choose_points(number, count, seed, index).tolist()


def test_pairs_and_seeds_draw_differently() -> None:
    draws = [choose_points(1000, 50, seed, index) for seed, index in ((0, 0), (0, 1), (1, 0))]
    assert len({draw.tobytes() for draw in draws}) == 3


def test_displacement_and_triangulated_depth(rigid: Callable[..., Sample]) -> None:
    facts = pair_truth(rigid(12), 0, CONFIG).facts
    np.testing.assert_allclose(facts.displacement_N, 12)
    np.testing.assert_allclose(facts.depth_N, 5, rtol=1e-9)


def test_stored_depth_is_that_of_the_chosen_points(rigid: Callable[..., Sample]) -> None:
    sample = rigid(12)
    number_N = np.arange(len(sample.matches_N4), dtype=np.float32)
    sample.attributes["depth0"] = number_N
    truth = pair_truth(sample, 3, CONFIG)
    numbers = truth.facts.depth_N.astype(int)
    np.testing.assert_array_equal(truth.truth_N4, sample.matches_N4[numbers])


@pytest.mark.parametrize("change", [{"unit": "model"}, {"kind": "flow"}])
def test_depth_without_metres_is_not_known(
    change: dict[str, str], rigid: Callable[..., Sample]
) -> None:
    sample = rigid(12)
    sample.metadata.update(change)
    assert np.isnan(pair_truth(sample, 0, CONFIG).facts.depth_N).all()


def test_classes_by_name_by_object_by_category(shifted: Callable[..., Sample]) -> None:
    sample = shifted((1, 0))
    numbers = np.arange(len(sample.matches_N4)) % 3
    assert pair_truth(sample, 0, CONFIG).facts.classes_N == ()
    sample.attributes["object"] = numbers
    assert set(pair_truth(sample, 0, CONFIG).facts.classes_N) == {"background", "moving object"}
    sample.attributes["class"] = numbers
    sample.metadata["class_names"] = {"0": "road", "1": "car"}
    assert set(pair_truth(sample, 0, CONFIG).facts.classes_N) == {"road", "car", "2"}
    sample.metadata.update({"kind": "semantic", "category": "bird"})
    assert set(pair_truth(sample, 0, CONFIG).facts.classes_N) == {"bird"}


def test_lengths_of_image_and_box_of_keypoint_pairs(shifted: Callable[..., Sample]) -> None:
    sample = shifted((1, 0), size=(120, 90))
    assert pair_truth(sample, 0, CONFIG).facts.lengths == {}
    sample.metadata.update({"kind": "semantic", "box1": [3, 4, 30, 50]})
    lengths = pair_truth(sample, 0, CONFIG).facts.lengths
    assert lengths == {"side": 120, "diagonal": 150, "box": 50}


def test_sparse_task_asks_for_what_the_detector_sees(shifted: Callable[..., Sample]) -> None:
    sample = shifted((6, 4), size=(200, 150))
    config = CONFIG.model_copy(update={"sparse": ("sift", "given"), "points": 10**6})
    truth = pair_truth(sample, 0, config)
    task, bound = truth.sparse["sift"], truth.facts.bounds["sift"]
    assert 0 < task.asked_N.sum() < len(truth.truth_N4)
    apart = np.linalg.norm(
        truth.truth_N4[task.asked_N][:, None, 2:] - task.points1_K2[None], axis=2
    )
    np.testing.assert_allclose(bound, apart.min(axis=1), atol=1e-4)
    # What is seen in image 0 is seen in image 1, which is the same image elsewhere.
    assert (bound <= 2.5).mean() > 0.9
    assert truth.sparse["given"].asked_N.all()
    assert not truth.facts.bounds["given"].any()


def test_flat_images_have_no_keypoints(shifted: Callable[..., Sample]) -> None:
    sample = shifted((1, 0))
    flat = Sample("k", sample.image0 * 0, sample.image1 * 0, sample.matches_N4, sample.metadata)
    config = CONFIG.model_copy(update={"sparse": ("fast",)})
    truth = pair_truth(flat, 0, config)
    assert not truth.sparse["fast"].asked_N.any()
    assert truth.facts.bounds["fast"].shape == (0,)
