import numpy as np
import pytest

from evaluation.pose import PoseError
from evaluation.summary import (
    UCN,
    MethodResult,
    PairResult,
    named_metrics,
    pose_figures,
    summarise,
    summarise_set,
)


def result(errors: list[float], poses: dict[str, tuple[PoseError, ...]] | None = None):
    return MethodResult(np.float32(errors), len(errors) // 2, poses or {})


def test_pck_pools_points_not_pairs() -> None:
    summary = summarise("sift", [result([0.5, 0.5, 0.5]), result([20.0])], (1, 10))
    assert summary.metrics["pck/1"] == summary.metrics["pck/10"] == 75
    assert summary.metrics["pck_over_pairs/10"] == 50
    # A draw has the pair of three points twice, once or never: 100, 75 or 0 percent.
    assert (summary.metrics["pck_low/10"], summary.metrics["pck_high/10"]) == (0, 100)
    assert summary.metrics["error_px_median"] == 0.5
    assert summary.metrics["error_px_mean"] == pytest.approx(21.5 / 4)
    assert (summary.pairs, summary.points, summary.posed) == (2, 4, 0)
    assert summary.reciprocal == 25
    assert not any(name.startswith("pose") for name in summary.metrics)


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


def test_standing_pairs_alone_have_a_rotation_only() -> None:
    assert pose_figures([(PoseError(1.5, None),)]) == {"rotation_deg_median": 1.5}


def test_failures_are_kept_as_the_worst() -> None:
    figures = pose_figures([(PoseError(180.0, 180.0),), (PoseError(0.0, 0.0),)])
    assert figures["auc_20"] == pytest.approx(50)
    assert figures["rotation_deg_median"] == 90


def test_names_are_those_of_the_contract() -> None:
    poses = {"opencv-magsac": (PoseError(1.0, 2.0),), "poselib": (PoseError(3.0, 4.0),)}
    pair = PairResult(0, "key", "drive", {UCN: result([1.0], poses), "sift": result([9.0], poses)})
    whole, sequences = summarise_set([pair], (1, 3, 5, 10))
    metrics = named_metrics(whole)
    contract = {f"pck/{t}" for t in (1, 3, 5, 10)} | {
        f"pose/{name}"
        for name in ("rotation_deg_median", "translation_deg_median", "auc_5", "auc_10", "auc_20")
    }
    assert contract <= set(metrics)
    assert {f"baseline/sift/{name}" for name in contract} <= set(metrics)
    assert metrics["pose/rotation_deg_median"] == 1
    assert metrics["pose/poselib/rotation_deg_median"] == 3
    assert metrics["pck/1"] == 100
    assert metrics["baseline/sift/pck/5"] == 0
    assert list(sequences) == ["drive"]


def test_sequences_are_apart_and_order_does_not_matter() -> None:
    pairs = [
        PairResult(i, f"k{i}", f"drive-{i % 2}", {"sift": result([float(i)] * (i + 1))})
        for i in range(6)
    ]
    whole, sequences = summarise_set(pairs, (1,))
    again, _ = summarise_set(pairs[::-1], (1,))
    assert whole == again
    assert list(sequences) == ["drive-0", "drive-1"]
    assert [rows[0].points for rows in sequences.values()] == [1 + 3 + 5, 2 + 4 + 6]
    assert whole[0].points == 21
