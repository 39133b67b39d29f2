"""SIFT features and their verification: pictures and features whose truth is known."""

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from ucn.preprocessing.labels.sift_features import (
    ProposedMatches,
    SiftFeatures,
    detect_sift,
    propose_matches,
)
from ucn.preprocessing.labels.verified_sift import (
    CalibratedFeatures,
    VerifiedMatches,
    verify_matches,
)

Array = np.ndarray
SIZE = (640, 480)
K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])


def test_points_are_unbiased_to_a_hundredth_of_a_pixel() -> None:
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(300.0), np.arange(300.0))
    centres = np.stack(np.meshgrid(np.arange(20, 290, 30), np.arange(20, 290, 30)), -1)
    centres = centres.reshape(-1, 2) + rng.uniform(-0.5, 0.5, (81, 2))
    picture = np.full((300, 300), 50.0)
    for cx, cy in centres:
        picture += 150 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 3.0**2))
    points = detect_sift(np.rint(picture).astype(np.uint8), 500).points_N2
    offsets = np.array([(points - c)[np.linalg.norm(points - c, axis=1).argmin()] for c in centres])
    assert np.abs(offsets).max() < 0.1
    assert np.abs(offsets.mean(axis=0)).max() < 0.01


def test_scales_and_angles_turn_with_the_picture() -> None:
    """Angles run from x towards y; a turned and enlarged picture has turned, larger features."""
    picture = data.camera()[100:350, 100:350]
    turn = cv2.getRotationMatrix2D((125, 125), -30, 2.0)
    turned = cv2.warpAffine(picture, turn, (250, 250), flags=cv2.INTER_CUBIC)
    features = [detect_sift(image, 2000) for image in (picture, turned)]
    found = propose_matches(*features)
    index0, index1 = found.index0_N, found.index1_N
    moved = features[0].points_N2[index0] @ turn[:, :2].T + turn[:, 2]
    near = np.linalg.norm(moved - features[1].points_N2[index1], axis=1) < 1
    clear = near & (found.ratio_N < 0.8)
    assert clear.sum() > 50
    assert (found.ratio_N[near] < 0.8).mean() > 2 * (found.ratio_N[~near] < 0.8).mean()
    octaves = np.log2(features[1].scales_N[index1] / features[0].scales_N[index0])[clear]
    turns = (features[1].angles_N[index1] - features[0].angles_N[index0])[clear]
    assert np.median(octaves) == pytest.approx(1, abs=0.1)
    assert np.median((turns + 180) % 360 - 180) == pytest.approx(30, abs=2)


def test_a_blank_picture_has_no_features_and_no_matches() -> None:
    blank, other = (
        detect_sift(image, 100) for image in (np.full((50, 60), 99, np.uint8), data.camera())
    )
    assert blank.points_N2.shape == (0, 2)
    assert blank.nbytes == 0
    for pair in ((blank, other), (other, blank), (blank, blank)):
        assert len(propose_matches(*pair).ratio_N) == 0


def random_features(rng: np.random.Generator, count: int) -> SiftFeatures:
    return SiftFeatures(
        points_N2=rng.uniform(0, 15, (count, 2)),
        scales_N=np.full(count, 5.0),
        angles_N=np.zeros(count),
        descriptors_ND=rng.integers(0, 256, (count, 128), dtype=np.uint8),
    )


def brute_force(
    features0: SiftFeatures, features1: SiftFeatures
) -> Iterator[tuple[int, int, float]]:
    """Mutual nearest neighbours and ratios by loops; sums of whole numbers, in double precision."""
    roots = [
        np.rint(
            4000
            * np.sqrt(one.descriptors_ND / one.descriptors_ND.sum(1, keepdims=True, dtype="f4"))
        )
        for one in (features0, features1)
    ]
    product = roots[0].astype(np.int64) @ roots[1].astype(np.int64).T
    distance = np.sqrt(2 - 2 * product / 4000**2)
    for i, j in enumerate(product.argmax(1)):
        if product[i, j] < product[:, j].max():
            continue
        far1 = np.linalg.norm(features1.points_N2 - features1.points_N2[j], axis=1) > 3
        far0 = np.linalg.norm(features0.points_N2 - features0.points_N2[i], axis=1) > 3
        others = np.concatenate([distance[i, far1], distance[far0, j]])
        yield i, int(j), float(distance[i, j] / others.min())


def test_inner_products_are_exact() -> None:
    """The largest that there is fits single precision."""
    one = np.zeros((1, 128), np.uint8)
    one[0, 0] = 255
    flat = np.full((1, 128), 255, np.uint8)
    for descriptors in (one, flat):
        features = replace(random_features(np.random.default_rng(0), 1), descriptors_ND=descriptors)
        assert propose_matches(features, features).ratio_N[0] < 0.01
    assert 128 * np.ceil(4000 / np.sqrt(128)) ** 2 < 2**24
    assert (4000 + np.sqrt(128) / 2) ** 2 < 2**24


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), count0=st.integers(5, 60), count1=st.integers(5, 60))
def test_proposals_are_those_of_brute_force(seed: int, count0: int, count1: int) -> None:
    rng = np.random.default_rng(seed)
    features0, features1 = random_features(rng, count0), random_features(rng, count1)
    found = propose_matches(features0, features1)
    expected = list(brute_force(features0, features1))
    assert found.index0_N.tolist() == [i for i, _, _ in expected]
    assert found.index1_N.tolist() == [j for _, j, _ in expected]
    assert found.ratio_N == pytest.approx([ratio for _, _, ratio in expected], rel=1e-5)


class Wall:
    """Points of a wall that faces two cameras a metre apart; all proposed matches are true."""

    def __init__(self, seed: int = 0, count: int = 120) -> None:
        self.rng = rng = np.random.default_rng(seed)
        x, y = rng.uniform(-1, 2, count), rng.uniform(-1.5, 1.5, count)
        self.points = np.column_stack([x, y, np.full(count, 6.0)])
        self.T_1_0 = np.eye(4)
        self.T_1_0[:3, 3] = [-1, 0.02, 0.1]
        self.ends = [self.project(self.points), self.project(self.points + self.T_1_0[:3, 3])]
        self.scales = [np.full(count, 4.0), np.full(count, 4.0)]
        self.angles = [rng.uniform(0, 360, count)] * 2
        self.ratio = rng.uniform(0.2, 0.8, count).astype(np.float32)

    def project(self, points: Array) -> Array:
        image = points @ K.T
        return image[:, :2] / image[:, 2:]

    def verify(self) -> VerifiedMatches:
        none = np.zeros((len(self.points), 128), np.uint8)
        views = [
            CalibratedFeatures(SiftFeatures(ends, scales, angles % 360, none), K, SIZE)
            for ends, scales, angles in zip(self.ends, self.scales, self.angles, strict=True)
        ]
        every = np.arange(len(self.points))
        return verify_matches(
            *views, self.T_1_0, ProposedMatches(every, every, self.ratio), 0.85, 1
        )


def test_true_matches_pass_and_get_their_depths() -> None:
    wall = Wall()
    found = wall.verify()
    assert found.matches_N4 == pytest.approx(np.hstack(wall.ends), abs=1e-9)
    assert found.depths_N2[:, 0] == pytest.approx(6)
    assert found.depths_N2[:, 1] == pytest.approx(6.1)
    assert found.error_N.max() < 1e-9
    assert found.shift_N.max() < 1e-9
    assert (found.ratio_N == wall.ratio).all()
    assert sum(found.rejected.values()) == 0


def along_line(wall: Wall, count: int = 1) -> None:
    """Move ends along their epipolar lines, to where points a quarter nearer would be."""
    nearer = 0.75 * wall.points[:count]
    wall.ends[1][:count] = wall.project(nearer + wall.T_1_0[:3, 3])


def spoil(wall: Wall, reason: str) -> None:
    """Make the first match fail one test alone."""
    if reason == "ambiguous descriptor":
        wall.ratio[0] = 0.9
    elif reason == "off the epipolar line":
        wall.ends[1][0, 1] += 1.5
    elif reason == "neighbours disagree":
        along_line(wall)
    elif reason == "other scale or rotation":
        wall.angles = [wall.angles[0], wall.angles[1] + 60 * (np.arange(len(wall.points)) == 0)]
    elif reason == "behind a camera":
        # Their rays part in front of the cameras, as those of a point behind both.
        wall.ends[1][0] = wall.project(wall.points[:1] - wall.T_1_0[:3, 3])[0]
    elif reason == "point matched twice":
        wall.ends[0][0], wall.ratio[0] = wall.ends[0][1], 0.84
        wall.ends[1][0] = wall.ends[1][1]
    else:
        wall.points[0] = [-3.2 - 0.02, 0.5, 6]
        wall.ends = [
            wall.project(wall.points),
            wall.project(wall.points + wall.T_1_0[:3, 3]),
        ]


@pytest.mark.parametrize(
    "reason",
    [
        "ambiguous descriptor",
        "off the epipolar line",
        "neighbours disagree",
        "other scale or rotation",
        "behind a camera",
        "point matched twice",
        "outside an image",
    ],
)
def test_one_false_match_is_found_out(reason: str) -> None:
    wall = Wall()
    spoil(wall, reason)
    found = wall.verify()
    assert found.rejected[reason] == 1
    assert sum(found.rejected.values()) == 1
    assert (found.ratio_N == wall.ratio[1:]).all()


def test_two_false_matches_do_not_vouch_for_each_other() -> None:
    wall = Wall()
    wall.points[1] = wall.points[0] + [0.05, 0, 0]
    wall.ends[0][1] = wall.project(wall.points)[1]
    along_line(wall, 2)
    found = wall.verify()
    assert found.rejected["neighbours disagree"] == 2
    assert (found.ratio_N == wall.ratio[2:]).all()


def test_other_scale_is_found_out() -> None:
    wall = Wall()
    wall.scales[1] = np.where(np.arange(len(wall.points)) < 3, 7.5, 4.0)
    assert wall.verify().rejected["other scale or rotation"] == 3


def test_matches_on_epipolar_lines_to_the_hundredth_whatever_the_noise() -> None:
    wall = Wall()
    truth = np.hstack(wall.ends)
    wall.ends = [ends + wall.rng.normal(0, 0.3, ends.shape) for ends in wall.ends]
    found = wall.verify()
    assert len(found.matches_N4) > 80
    assert found.rejected["off the epipolar line"] > 0
    assert found.error_N.max() <= 1
    P0, P1 = K @ np.eye(3, 4), K @ wall.T_1_0[:3]
    ends = found.matches_N4.T
    points = cv2.triangulatePoints(P0, P1, ends[:2], ends[2:])
    for P, seen in ((P0, ends[:2]), (P1, ends[2:])):
        image = P @ points
        assert np.abs(image[:2] / image[2] - seen).max() < 0.001
    # The noise across the lines goes, that along them stays.
    nearest = np.linalg.norm(found.matches_N4[:, None] - truth, axis=2).min(axis=1)
    assert nearest.max() < 2


def test_next_to_an_epipole_nothing_is_kept() -> None:
    wall = Wall()
    wall.T_1_0[:3, 3] = [0, 0, -1]
    wall.ends = [wall.project(wall.points), wall.project(wall.points + wall.T_1_0[:3, 3])]
    # The epipole is at (320, 240): single precision turns the line through a point beside it.
    wall.ends[0][0], wall.ends[1][0] = [320.003, 240.0005], [380, 250]
    wall.scales[1] = wall.scales[0] * 6 / 5
    found = wall.verify()
    assert found.rejected["next to an epipole"] == 1
    assert sum(found.rejected.values()) == 1


def test_too_few_matches_have_no_neighbours_to_agree_with() -> None:
    assert len(Wall(count=5).verify().matches_N4) == 0
    assert len(Wall(count=0).verify().matches_N4) == 0


def test_two_views_from_one_place_are_refused() -> None:
    wall = Wall()
    wall.T_1_0 = np.eye(4)
    with pytest.raises(ValueError, match="one centre"):
        wall.verify()
