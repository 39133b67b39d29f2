from dataclasses import replace

import numpy as np
import pytest

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.report.summary import (
    MethodResult,
    MethodSummary,
    PairResult,
    pose_figures,
    summarise,
)
from ucn.evaluation.scores.pck import CURVE_ALPHAS
from ucn.evaluation.scores.planar import PlanarErrors
from ucn.evaluation.scores.pose import PoseError
from ucn.evaluation.truth import PointFacts

CONFIG = EvaluateConfig(shards=("a",), model=("m",), baselines=("sift",))


def result(errors: list[float], poses: dict[str, tuple[PoseError, ...]] | None = None):
    return MethodResult(np.float32(errors), len(errors) // 2, poses or {})


def a_pair(index: int, sequence: str, methods: dict[str, MethodResult], **facts) -> PairResult:
    number = len(next(iter(methods.values())).errors_N)
    known = PointFacts(np.zeros(number), np.zeros(number), **facts)
    return PairResult(index, f"k{index}", sequence, known, methods)


def of_sift(results: list[MethodResult], **options) -> MethodSummary:
    config = CONFIG.model_copy(update=options)
    return summarise("sift", [a_pair(i, "s", {"sift": r}) for i, r in enumerate(results)], config)


def test_pck_pools_points_not_pairs() -> None:
    summary = of_sift([result([0.5, 0.5, 0.5]), result([20.0])])
    assert summary.metrics["pck/1"] == summary.metrics["pck/10"] == 75
    assert summary.metrics["pck_over_pairs/10"] == 50
    # A draw has the pair of three points twice, once or never: 100, 75 or 0 percent.
    assert (summary.metrics["pck_low/10"], summary.metrics["pck_high/10"]) == (0, 100)
    assert summary.metrics["error_px_median"] == 0.5
    assert summary.metrics["error_px_mean"] == pytest.approx(21.5 / 4)
    assert (summary.pairs, summary.points, summary.posed) == (2, 4, 0)
    assert summary.reciprocal == 25
    assert not any(name.startswith("pose") for name in summary.metrics)


def test_own_matches_are_counted_where_every_pair_has_them() -> None:
    some, none = (replace(result([1.0]), own=number) for number in (5, 0))
    assert of_sift([some, none]).metrics["own_matches"] == 2.5
    # A flow method without a file for the second pair has no points of its own.
    assert "own_matches" not in of_sift([result([1.0]), none]).metrics


def test_pose_figures_closed_form() -> None:
    pairs = [
        (PoseError(1.0, 2.0), PoseError(1.0, 4.0)),
        (PoseError(3.0, 50.0), PoseError(5.0, 50.0)),
        (PoseError(2.0, None), PoseError(2.0, None)),
    ]
    figures = pose_figures(pairs)
    assert figures["rotation_deg_median"] == 2
    assert figures["translation_deg_median"] == (26 + 27) / 2
    # Largest of the two errors: 2 and 50 in one seed, 4 and 50 in the other.
    assert figures["auc_10"] == pytest.approx((45 + 40) / 2)
    assert figures["auc_10_spread"] == pytest.approx(5)
    assert figures["map_5"] == figures["map_20"] == 50  # one of two pairs, at each step


def test_further_queries_have_their_own_pose_figures() -> None:
    right, wrong = (PoseError(0.0, None),), (PoseError(180.0, None),)
    poses = {"poselib": right, "opencv-ransac": wrong}
    more = {
        f"sift:{name}": errors for name, errors in (("poselib", wrong), ("opencv-ransac", right))
    }
    summary = of_sift([MethodResult(np.zeros(1, np.float32), 1, poses | more)])
    rotations = {n: v for n, v in summary.metrics.items() if n.endswith("rotation_deg_median")}
    assert rotations == {
        "pose/rotation_deg_median": 0,
        "pose/poselib/rotation_deg_median": 0,
        "pose/opencv-ransac/rotation_deg_median": 180,
        "pose_sift/rotation_deg_median": 180,
        "pose_sift/poselib/rotation_deg_median": 180,
        "pose_sift/opencv-ransac/rotation_deg_median": 0,
    }
    assert (summary.posed, summary.standing) == (1, 1)


def test_standing_pairs_alone_have_a_rotation_only() -> None:
    assert pose_figures([(PoseError(1.5, None),)]) == {"rotation_deg_median": 1.5}


def test_failures_are_kept_as_the_worst() -> None:
    figures = pose_figures([(PoseError(180.0, 180.0),), (PoseError(0.0, 0.0),)])
    assert figures["auc_20"] == pytest.approx(50)
    assert figures["rotation_deg_median"] == 90


def test_points_without_a_match_are_wrong_and_have_no_mean() -> None:
    metrics = of_sift([result([0.5, np.inf, np.inf])]).metrics
    assert metrics["pck/10"] == metrics["answered"] == pytest.approx(100 / 3)
    assert not any(name.startswith("error_px") for name in metrics)
    assert of_sift([result([0.5, 1, np.inf])]).metrics["error_px_median"] == 1


def test_a_method_without_any_answer_has_only_finite_metrics() -> None:
    pairs = [
        a_pair(0, "s", {"sift": result([np.inf] * 2)}, classes_N=("a", "b"), lengths={"side": 9}),
        a_pair(1, "s", {"sift": result([np.inf])}, classes_N=("a",), lengths={"side": 9}),
    ]
    summary = summarise("sift", pairs, CONFIG)
    assert set(summary.metrics.values()) == {0}
    assert {"answered", "pck/1", "pck_side/0.1", "pck_side_over_classes/0.1"} <= set(
        summary.metrics
    )
    assert set(summary.curve) == set(summary.alpha_curves["side"]) == {0}


def test_relative_to_lengths_over_points_and_over_classes() -> None:
    pairs = [
        a_pair(0, "s", {"sift": result([5, 5, 20])}, classes_N=("a",) * 3, lengths={"box": 100}),
        a_pair(1, "s", {"sift": result([5])}, classes_N=("b",), lengths={"box": 10}),
        a_pair(2, "s", {"sift": result([0])}),
    ]
    summary = summarise("sift", pairs, CONFIG.model_copy(update={"alphas": (0.025,)}))
    metrics = summary.metrics
    # Of a: 0.05, 0.05, 0.2; of b: 0.5; the pair without labels has no length.
    assert metrics["pck_box/0.1"] == 50
    assert metrics["pck_box_over_classes/0.1"] == pytest.approx((200 / 3 + 0) / 2)
    assert metrics["pck_box/0.025"] == 0
    assert "pck_side/0.1" not in metrics
    # A draw without one of the labelled pairs has 2 of 3 or none of 1.
    assert metrics["pck_box_low/0.1"] == 0
    assert metrics["pck_box_high/0.1"] == pytest.approx(200 / 3)
    curve = dict(zip(CURVE_ALPHAS, summary.alpha_curves["box"], strict=True))
    assert (curve[0.045], curve[0.05], curve[0.1], curve[0.15]) == (0, 50, 50, 50)


def test_sparse_errors_are_pooled() -> None:
    found = [
        MethodResult(np.float32([1]), 0, {}, sparse={"sift": np.float32(errors)})
        for errors in ([0.5, 20], [], [2])
    ]
    metrics = of_sift(found, sparse=("sift", "fast")[:1]).metrics
    assert metrics["sparse/sift/pck/1"] == pytest.approx(100 / 3)
    assert metrics["sparse/sift/pck/3"] == pytest.approx(200 / 3)
    nothing = [MethodResult(np.float32([1]), 0, {}, sparse={"sift": np.zeros(0, np.float32)})]
    assert not any(name.startswith("sparse") for name in of_sift(nothing, sparse=("sift",)).metrics)


def test_planar_pairs_have_accuracy_and_corner_areas() -> None:
    planar = [PlanarErrors(np.float64([0.5, 2]), {"poselib": (0.0, np.inf)})]
    planar += [PlanarErrors(np.zeros(0), {"poselib": (np.inf, np.inf)})]
    pairs = [
        PairResult(
            i, "k", "s", PointFacts(np.zeros(1), np.zeros(1)), {"sift": result([1])}, {"sift": p}
        )
        for i, p in enumerate(planar)
    ]
    metrics = summarise("sift", pairs, CONFIG).metrics
    assert (metrics["mma/1"], metrics["mma/2"], metrics["mma/10"]) == (25, 50, 50)
    # One of two pairs is exact with the first seed, none with the second.
    assert metrics["homography/auc_3"] == metrics["homography/poselib/auc_3"] == pytest.approx(25)
