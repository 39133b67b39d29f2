import numpy as np
import pytest

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.report.breakdown import breakdowns, filter_curves, sparse_bounds
from ucn.evaluation.report.summary import MethodResult, PairResult
from ucn.evaluation.scores.pck import Criterion
from ucn.evaluation.truth import PointFacts

CONFIG = EvaluateConfig(
    shards=("a",), thresholds=(1, 5), displacement_bins_px=(10,), depth_bins_m=(20,)
)


def pair(errors: list[float], facts: PointFacts, **scores: list[float]) -> PairResult:
    result = MethodResult(
        np.float32(errors), 0, {}, scores={name: np.float32(one) for name, one in scores.items()}
    )
    return PairResult(0, "k", "s", facts, {"sift": result})


def test_points_of_all_pairs_are_parted() -> None:
    pairs = [
        pair([0, 3], PointFacts(np.float64([2, 10]), np.float64([5, np.nan]), ("car", "road"))),
        pair([9], PointFacts(np.float64([50]), np.float64([20]), ())),
    ]
    by_quantity = {one.quantity: one.parts for one in breakdowns(pairs, CONFIG)}
    assert list(by_quantity) == ["displacement", "depth", "class"]
    figures = {
        quantity: {title: (part["sift"].points, part["sift"].percent) for title, part in p.items()}
        for quantity, p in by_quantity.items()
    }
    assert figures == {
        "displacement": {"0 to 10 px": (1, (100, 100)), "over 10 px": (2, (0, 50))},
        "depth": {"0 to 20 m": (1, (100, 100)), "over 20 m": (1, (0, 0))},
        "class": {"car": (1, (100, 100)), "road": (1, (0, 100))},
    }


def test_labelled_keypoints_are_split_by_class_at_alpha() -> None:
    pairs = [
        pair([1, 30], PointFacts(np.zeros(2), np.zeros(2), ("cat", "dog"), {"side": 100})),
        pair([30], PointFacts(np.zeros(1), np.zeros(1), ("cat",), {"side": 1000})),
        pair([0], PointFacts(np.zeros(1), np.zeros(1))),
    ]
    found = next(one for one in breakdowns(pairs, CONFIG) if one.metric == "pck_side")
    assert (found.quantity, found.thresholds) == ("class", [0.025, 0.05, 0.1])
    assert {
        title: (part["sift"].points, part["sift"].percent) for title, part in found.parts.items()
    } == {
        "cat": (2, (50, 100, 100)),
        "dog": (1, (0, 0, 0)),
    }


def test_what_is_not_known_gives_no_table() -> None:
    facts = PointFacts(np.float64([2]), np.float64([np.nan]))
    assert [one.quantity for one in breakdowns([pair([0], facts)], CONFIG)] == ["displacement"]


def test_filters_have_curves_where_all_pairs_have_scores() -> None:
    facts = PointFacts(np.float64([2, 2]), np.float64([1, 1]))
    pairs = [
        pair([0, 9], facts, similarity=[0.9, 0.1], ratio=[-0.5, -0.4]),
        pair([0, 9], facts, similarity=[0.8, 0.7]),
    ]
    curves = filter_curves(pairs, Criterion(5))["sift"]
    assert list(curves) == ["similarity"]
    assert curves["similarity"].precision_K.tolist() == pytest.approx([100, 100, 200 / 3, 50])
    assert curves["similarity"].recall_K.tolist() == [50, 100, 100, 100]


def test_filters_of_a_method_without_a_correct_match_have_no_curve() -> None:
    facts = PointFacts(np.zeros(2), np.zeros(2), lengths={"side": 100})
    found = [pair([9, np.inf], facts, similarity=[1, 1])]
    assert filter_curves(found, Criterion(5)) == {"sift": {}}
    assert list(filter_curves(found, Criterion(0.1, "side"))["sift"]) == ["similarity"]
    assert filter_curves([pair([0], facts)], Criterion(5)) == {}


def test_bounds_pool_the_points_that_are_seen() -> None:
    bounds = [{"sift": np.float32([0.5, 3])}, {"sift": np.float32([np.inf])}]
    pairs = [pair([0], PointFacts(np.zeros(1), np.zeros(1), bounds=one)) for one in bounds]
    assert sparse_bounds(pairs, (1, 5)) == {"sift": (3, pytest.approx((100 / 3, 200 / 3)))}


def test_a_detector_that_sees_no_point_is_counted() -> None:
    facts = PointFacts(np.zeros(1), np.zeros(1), bounds={"fast": np.zeros(0, np.float32)})
    assert sparse_bounds([pair([0], facts)], (1, 5)) == {"fast": (0, ())}
