import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ucn.evaluation.scores.estimators import ESTIMATORS, RelativePose
from ucn.evaluation.scores.pose import (
    FAILED_DEG,
    PoseError,
    estimate_pose,
    mean_focal,
    median_parallax_px,
    normalise_points,
    pose_auc,
    pose_error,
    pose_map,
    rotation_error_deg,
    sweep_thresholds,
    translation_error_deg,
)

K0 = np.array([[700.0, 0, 610], [0, 690, 180], [0, 0, 1]])
K1 = np.array([[420.0, 0, 320], [0, 430, 240], [0, 0, 1]])
R_TRUE = Rotation.from_euler("xyz", [2, -7, 1], degrees=True).as_matrix()
T_1_0 = np.eye(4)
T_1_0[:3, :3], T_1_0[:3, 3] = R_TRUE, [0.3, -0.1, -0.8]


def exact_matches(count: int, seed: int) -> np.ndarray:
    """Matches of points 4 to 60 m away, by independent projection in float64."""
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(-4, 4, (count, 2)), rng.uniform(4, 60, count)])
    pixels = []
    for K, camera in ((K0, points), (K1, points @ R_TRUE.T + T_1_0[:3, 3])):
        homogeneous = camera @ K.T
        pixels.append(homogeneous[:, :2] / homogeneous[:, 2:])
    return np.concatenate(pixels, axis=1)


@pytest.mark.parametrize(("estimator", "seed"), itertools.product(ESTIMATORS, [0, 1]))
def test_exact_matches_of_two_different_cameras(estimator: str, seed: int) -> None:
    matches = exact_matches(200, seed)
    error = pose_error(estimate_pose(matches, K0, K1, estimator, 1.0, seed), T_1_0, moves=True)
    assert error.rotation_deg < 0.01
    assert error.translation_deg is not None
    assert error.translation_deg < 0.1


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_outliers_are_withstood(estimator: str) -> None:
    rng = np.random.default_rng(7)
    matches = exact_matches(300, 3) + rng.normal(0, 0.2, (300, 4))
    matches[::3, 2:] = rng.uniform(0, 480, (100, 2))
    error = pose_error(estimate_pose(matches, K0, K1, estimator, 1.0, 0), T_1_0, moves=True)
    assert error.rotation_deg < 1
    assert error.translation_deg is not None
    assert error.translation_deg < 5


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_one_seed_gives_one_pose(estimator: str) -> None:
    rng = np.random.default_rng(1)
    matches = exact_matches(150, 1) + rng.normal(0, 1.0, (150, 4))
    first, again = (estimate_pose(matches, K0, K1, estimator, 1.0, 5) for _ in range(2))
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.R, again.R)
    np.testing.assert_array_equal(first.t, again.t)
    assert np.linalg.norm(first.t) == pytest.approx(1)


@pytest.mark.parametrize("estimator", ["opencv-ransac", "poselib"])
def test_other_seeds_draw_other_samples(estimator: str) -> None:
    rng = np.random.default_rng(1)
    matches = exact_matches(150, 1) + rng.normal(0, 1.5, (150, 4))
    matches[::2, 2:] = rng.uniform(0, 480, (75, 2))
    poses = [estimate_pose(matches, K0, K1, estimator, 1.0, seed) for seed in range(6)]
    assert len({pose.t.round(9).tobytes() for pose in poses if pose is not None}) > 1


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("count", [0, 4])
def test_too_few_matches_are_no_pose(estimator: str, count: int) -> None:
    assert estimate_pose(exact_matches(8, 0)[:count], K0, K1, estimator, 1.0, 0) is None


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_degenerate_matches_are_no_error(estimator: str) -> None:
    pose = estimate_pose(np.full((60, 4), 50.0), K0, K1, estimator, 1.0, 0)
    error = pose_error(pose, T_1_0, moves=True)
    assert np.isfinite([error.rotation_deg, error.translation_deg]).all()


def test_mean_focal_uses_all_four() -> None:
    # The copied bug took K0[0, 0] and K1[1, 1] twice each and gave 565.
    assert mean_focal(K0, K1) == (700 + 690 + 420 + 430) / 4
    assert mean_focal(np.diag([1.0, 10, 1]), np.diag([100.0, 1000, 1])) == 1111 / 4


def test_threshold_is_in_pixels_of_the_mean_focal(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    fake = {"fake": lambda rays, threshold, seed: seen.append((rays.focal_px, threshold, seed))}
    monkeypatch.setattr("ucn.evaluation.scores.pose.ESTIMATORS", fake)
    estimate_pose(exact_matches(9, 0), K0, K1, "fake", 1.5, 4)
    assert seen == [(560.0, 1.5, 4)]


def test_opencv_gets_the_threshold_over_the_mean_of_all_four_focals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def find(*args: object, threshold: float, **options: object) -> tuple[None, None]:
        seen.append(threshold)
        return None, None

    monkeypatch.setattr("ucn.evaluation.scores.estimators.cv2.findEssentialMat", find)
    assert estimate_pose(exact_matches(9, 0), K0, K1, "opencv-ransac", 1.5, 0) is None
    assert seen == [pytest.approx(1.5 / 560)]


def test_points_are_normalised_with_their_own_intrinsics() -> None:
    skewed = np.array([[500.0, 3, 300], [0, 450, 200], [0, 0, 1]])
    pixel = skewed @ np.array([0.4, -0.2, 1.0])
    np.testing.assert_allclose(normalise_points(pixel[None, :2], skewed), [[0.4, -0.2]])


@given(st.floats(0, 180), st.integers(0, 2**32 - 1))
def test_rotation_error_is_the_angle(angle: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    axis = rng.standard_normal(3)
    turn = Rotation.from_rotvec(np.radians(angle) * axis / np.linalg.norm(axis)).as_matrix()
    R = Rotation.random(rng=rng).as_matrix()
    assert rotation_error_deg(R, R @ turn) == pytest.approx(angle, abs=1e-6)
    assert rotation_error_deg(R @ turn, R) == pytest.approx(angle, abs=1e-6)


def test_rotation_error_keeps_small_angles() -> None:
    # The plain arccosine rounds 1e-7 degrees to 0 and can be undefined.
    turn = Rotation.from_rotvec([0, np.radians(1e-7), 0]).as_matrix()
    assert rotation_error_deg(R_TRUE, R_TRUE @ turn) == pytest.approx(1e-7, rel=1e-3)


def test_translation_error_keeps_the_sign() -> None:
    t = np.array([1.0, 2, -3])
    assert translation_error_deg(t, 5 * t) == pytest.approx(0, abs=1e-6)
    assert translation_error_deg(-t, t) == pytest.approx(180)
    assert translation_error_deg(np.array([1.0, 0, 0]), np.array([0, 0, 2.0])) == pytest.approx(90)


def test_failure_is_the_worst_and_standing_pairs_have_no_translation() -> None:
    failure = pose_error(None, T_1_0, moves=True)
    assert (failure.rotation_deg, failure.translation_deg) == (FAILED_DEG, FAILED_DEG)
    still = pose_error(RelativePose(R_TRUE, np.array([1.0, 0, 0])), T_1_0, moves=False)
    assert still.translation_deg is None
    assert still.rotation_deg == pytest.approx(0, abs=1e-6)


def test_parallax_is_zero_for_a_rotation_and_known_for_a_shift() -> None:
    turned = T_1_0.copy()
    turned[:3, 3] = 0
    rays = np.random.default_rng(0).uniform(-0.2, 0.2, (50, 2))
    homogeneous = np.column_stack([rays, np.ones(50)])
    ends0, ends1 = homogeneous @ K0.T, homogeneous @ (K1 @ R_TRUE).T
    matches = np.column_stack([ends0[:, :2], ends1[:, :2] / ends1[:, 2:]])
    assert median_parallax_px(matches, K0, K1, turned) == pytest.approx(0, abs=1e-9)
    matches[:, 2] += 7
    assert median_parallax_px(matches, K0, K1, turned) == pytest.approx(7)


@pytest.mark.parametrize(
    ("errors", "threshold", "expected"),
    [
        ([0.0, 0.0], 5, 100.0),
        ([180.0], 20, 0.0),
        # Recall rises to 1/2 at 2 degrees and stays: (2 * 1/2 / 2 + 8 * 1/2) / 10.
        ([2.0, 50.0], 10, 45.0),
        # Up to 1/2 at 2, to 1 at 4, level to 10: (0.5 + 1.5 + 6) / 10.
        ([4.0, 2.0], 10, 80.0),
    ],
)
def test_auc_closed_forms(errors: list[float], threshold: float, expected: float) -> None:
    assert pose_auc(errors, threshold) == pytest.approx(expected)


@given(st.lists(st.floats(0, 180), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_auc_is_bounded_grows_with_its_threshold_and_ignores_order(errors, random) -> None:
    areas = [pose_auc(errors, threshold) for threshold in (5, 10, 20)]
    assert all(0 <= area <= 100 for area in areas)
    random.shuffle(errors)
    assert pose_auc(errors, 10) == pytest.approx(areas[1])
    assert pose_auc([error / 2 for error in errors], 10) >= areas[1] - 1e-9


@pytest.mark.parametrize(
    ("errors", "threshold", "expected"),
    [
        # mAP@5 is the share below 5 degrees; mAP@20 the mean of those below 5, 10, 15 and 20.
        ([1.0, 6.0, 12.0, 180.0], 5, 25.0),
        ([1.0, 6.0, 12.0, 180.0], 20, (25 + 50 + 75 + 75) / 4),
        ([180.0], 20, 0.0),
    ],
)
def test_map_closed_forms(errors: list[float], threshold: int, expected: float) -> None:
    assert pose_map(errors, threshold) == pytest.approx(expected)


def test_a_failure_stays_in_every_figure() -> None:
    failure = pose_error(None, T_1_0, moves=True)
    errors = [failure.rotation_deg, 0.0]
    assert (pose_auc(errors, 20), pose_map(errors, 20)) == (50, 50)


def test_a_sweep_is_one_estimate_for_each_threshold_and_seed() -> None:
    rng = np.random.default_rng(4)
    matches = exact_matches(120, 2) + rng.normal(0, 0.5, (120, 4))
    limits, seeds = [0.5, 2.0], [0, 3]
    names = ("poselib", "opencv-ransac")
    swept = sweep_thresholds(matches, K0, K1, T_1_0, names, limits, seeds, moves=True)
    assert list(swept) == [one + rest for one in names for rest in ("", "/threshold_2")]
    for name in names:
        for key, limit in ((name, 0.5), (f"{name}/threshold_2", 2.0)):
            assert swept[key] == tuple(
                pose_error(estimate_pose(matches, K0, K1, name, limit, seed), T_1_0, moves=True)
                for seed in seeds
            )
    assert len(set(swept.values())) == 4


def test_the_rotation_is_estimated_once_for_all_estimators(monkeypatch) -> None:
    seen = []

    def rotation(rays, threshold_px, seed):
        seen.append((threshold_px, seed))
        return R_TRUE

    monkeypatch.setattr("ucn.evaluation.scores.pose.estimate_rotation", rotation)
    names, limits, seeds = ("poselib", "opencv-ransac", "opencv-magsac"), [0.5, 2.0], [0, 3]
    sweep_thresholds(exact_matches(40, 2), K0, K1, T_1_0, names, limits, seeds, moves=True)
    assert seen == [(limit, seed) for limit in limits for seed in seeds]


def test_a_sweep_without_enough_matches_is_all_failures() -> None:
    swept = sweep_thresholds(
        exact_matches(4, 0), K0, K1, T_1_0, ("poselib",), [1.0, 3.0], [0], moves=True
    )
    failed = (PoseError(FAILED_DEG, FAILED_DEG),)
    assert swept == {"poselib": failed, "poselib/threshold_3": failed}


@pytest.mark.parametrize(("limits", "seeds"), [([], [0]), ([1.0], []), ([0.0], [0])])
def test_an_empty_sweep_is_refused(limits: list[float], seeds: list[int]) -> None:
    with pytest.raises(ValueError, match="sweep"):
        sweep_thresholds(exact_matches(9, 0), K0, K1, T_1_0, ["poselib"], limits, seeds, moves=True)
