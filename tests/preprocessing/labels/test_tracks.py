"""Pairs by shared tracks and angle against brute force; what an image keeps of its detections."""

from collections import Counter
from itertools import combinations
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ucn.geometry.sfm_model import SfmCamera, SfmImage, SfmModel, posed_images, unusable_image
from ucn.preprocessing.labels import tracks
from ucn.preprocessing.labels.tracks import (
    find_track_pairs,
    limit_per_image,
    match_tracks,
    sample_pairs,
)

SIZE = 640, 480
CAMERA = SfmCamera(np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]]), SIZE, "PINHOLE", ())


def rotation(rng: np.random.Generator) -> np.ndarray:
    Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return Q * np.sign(np.linalg.det(Q))


def random_model(seed: int, images: int, points: int) -> SfmModel:
    """Sightings at random; what is seen need not lie in view, for pairs that does not matter."""
    rng = np.random.default_rng(seed)
    points_P3 = rng.normal(size=(points, 3))
    found = []
    for index in range(images):
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = rotation(rng), 5 * rng.normal(size=3)
        seen = np.flatnonzero(rng.random(points) < rng.random())
        errors = rng.exponential(1.5, len(seen))
        errors[rng.random(len(seen)) < 0.05] = np.inf
        found.append(SfmImage(f"{index:03d}", CAMERA, T, seen, errors))
    return SfmModel(tuple(found), points_P3, np.arange(points))


@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(0, 7),
    points=st.integers(0, 60),
    min_shared=st.integers(1, 20),
)
@settings(max_examples=40)
def test_pairs_are_those_of_brute_force(
    seed: int, images: int, points: int, min_shared: int
) -> None:
    model = random_model(seed, images, points)
    # Small blocks of one to a few images.
    with patch.object(tracks, "_BLOCK", 50):
        pairs = find_track_pairs(model, 2.0, min_shared)
    expected = []
    for i, j in combinations(range(images), 2):
        good = [
            {p for p, e in zip(image.points_M, image.errors_M, strict=True) if e <= 2}
            for image in (model.images[i], model.images[j])
        ]
        shared = sorted(good[0] & good[1])
        if len(shared) < min_shared:
            continue
        angles = []
        for point in shared:
            a, b = (
                -model.images[k].T_cam_world[:3, :3].T @ model.images[k].T_cam_world[:3, 3]
                - model.points_P3[point]
                for k in (i, j)
            )
            angles.append(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))
        expected.append((i, j, len(shared), sorted(angles)[(len(angles) - 1) // 2]))
    found = list(
        zip(pairs.first_K, pairs.second_K, pairs.shared_K, pairs.angles_K.tolist(), strict=True)
    )
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    np.testing.assert_allclose([row[3] for row in found], [row[3] for row in expected], atol=1e-5)


def test_small_angles_are_exact() -> None:
    """A thousandth of a degree between two cameras, and the last image of many."""
    angle = np.deg2rad(1e-3)
    T0, T1 = np.eye(4), np.eye(4)
    T0[2, 3] = T1[2, 3] = 10
    T1[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    empty = unusable_image("", CAMERA, "not registered")
    seen = [SfmImage("", CAMERA, T, np.array([0]), np.zeros(1)) for T in (T0, T1)]
    model = SfmModel((*[empty] * 5000, *seen), np.zeros((1, 3)), np.zeros(1, np.int64))
    pairs = find_track_pairs(model, 1.0, 1)
    assert (pairs.first_K.tolist(), pairs.second_K.tolist()) == ([5000], [5001])
    assert pairs.angles_K[0] == pytest.approx(1e-3, rel=1e-4)


def test_a_seeded_choice_keeps_the_order() -> None:
    pairs = find_track_pairs(random_model(3, 7, 60), np.inf, 1)
    chosen = sample_pairs(pairs, 5, [7])
    rows = list(zip(pairs.first_K, pairs.second_K, pairs.shared_K, pairs.angles_K, strict=True))
    some = list(zip(chosen.first_K, chosen.second_K, chosen.shared_K, chosen.angles_K, strict=True))
    assert len(some) == 5
    assert some == [row for row in rows if row in some]
    np.testing.assert_array_equal(sample_pairs(pairs, 5, [7]).second_K, chosen.second_K)
    others = [sample_pairs(pairs, 5, [seed]).second_K.tolist() for seed in range(8, 16)]
    assert any(one != chosen.second_K.tolist() for one in others)
    assert sample_pairs(pairs, 0, [7]) is pairs
    assert sample_pairs(pairs, len(rows), [7]) is pairs


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 4))
@settings(max_examples=20)
def test_no_image_is_in_more_pairs_and_none_has_room_left(seed: int, count: int) -> None:
    pairs = find_track_pairs(random_model(seed, 7, 60), np.inf, 1)
    everything = list(zip(pairs.first_K.tolist(), pairs.second_K.tolist(), strict=True))
    some = limit_per_image(pairs, count, [seed])
    chosen = list(zip(some.first_K.tolist(), some.second_K.tolist(), strict=True))
    taken = Counter[int]()
    expected = []
    for place in np.random.default_rng([seed]).permutation(len(everything)).tolist():
        if all(taken[image] < count for image in everything[place]):
            expected.append(everything[place])
            taken.update(everything[place])
    assert chosen == sorted(expected)
    assert limit_per_image(pairs, 0, [seed]) is pairs
    assert limit_per_image(pairs, count, [seed]).second_K.tolist() == some.second_K.tolist()


def test_of_several_detections_of_a_point_the_nearest_counts() -> None:
    points = np.array([[0, 0, 5.0], [1, 0, 5], [0, 0, -5], [np.nan, 0, 5]])
    # True pixels: (320, 240), (420, 240), behind, unknown.
    detected = np.array([[420, 243.0], [323, 244], [320, 240], [320, 241], [320, 240]])
    index = np.array([1, 0, 2, 0, 3])
    lost = np.eye(4)
    lost[0, 3] = np.nan
    # Image c is turned by half a turn about z, and sees point 1 at (220, 240).
    poses = np.array([np.eye(4), lost, np.diag([-1.0, -1, 1, 1])])
    a, b, c = posed_images(
        "abc",
        [CAMERA] * 3,
        poses,
        points,
        np.array([5, 1, 1]),
        np.append(index, [1, 1]),
        np.vstack([detected, detected[:1], [[220, 242]]]),
    )
    assert a.points_M.tolist() == [0, 1, 2, 3]
    assert a.errors_M.tolist() == [1, 3, np.inf, np.inf]
    assert a.good_points(2).tolist() == [0]
    assert (b.fault, b.points_M.tolist()) == ("damaged pose", [])
    assert (c.points_M.tolist(), c.errors_M.tolist()) == ([1], [2])


def test_matches_are_counted_by_why_they_are_not_there() -> None:
    points = np.array([[0, 0, 5.0], [1, 0, 5], [-3.1, 0, 5], [0, 1, 5]])
    T = np.eye(4)
    T[0, 3] = -0.5
    index = np.arange(4)
    image0 = SfmImage("0", CAMERA, np.eye(4), index, np.array([0.5, 1.5, 0, 0]))
    image1 = SfmImage("1", CAMERA, T, index[:3], np.array([0.25, 2.5, 0]))
    model = SfmModel((image0, image1), points, np.array([7, 8, 9, 10]))
    found = match_tracks(
        model, (image0, image1), (CAMERA, CAMERA), (SIZE, SIZE), max_error=2, undistorted=True
    )
    # Of the four the third lies left of image 1, the fourth is not seen in it.
    assert found.rejected == {"reprojection error": 1, "outside an image": 1}
    np.testing.assert_allclose(found.matches_N4, [[320, 240, 270, 240]])
    assert {name: values.tolist() for name, values in found.attributes.items()} == {
        "depth0": [5.0],
        "depth1": [5.0],
        "track": [7],
        "error0": [0.5],
        "error1": [0.25],
    }


def test_a_lens_has_no_pixel_where_it_folds() -> None:
    """Barrel distortion r (1 - 0.3 r^2) turns back at r = 1.054."""
    lens = SfmCamera(
        CAMERA.K, SIZE, "x", (), lambda rays: rays * (1 - 0.3 * (rays**2).sum(1))[:, None]
    )
    pixels = lens.project_distorted(np.array([[0.0, 0], [1.04, 0], [0, 1.07], [1.5, 0]]))
    np.testing.assert_allclose(
        pixels[:2], [[320, 240], [320 + 500 * 1.04 * (1 - 0.3 * 1.04**2), 240]]
    )
    assert np.isnan(pixels[2:]).all()
