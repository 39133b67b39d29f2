"""Sparse baselines: keypoints where they are, matched exactly, at their own scale and rotation."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from ucn.evaluation.methods.baselines.base import KeypointMatcher
from ucn.evaluation.methods.baselines.registry import BASELINES
from ucn.evaluation.methods.baselines.sparse_keypoints import (
    Keypoints,
    match_keypoints,
    strongest,
)

KINDS = {name: BASELINES.load(name) for name in BASELINES.builtin}
MATCHERS = {
    name: kind
    for name, kind in KINDS.items()
    if issubclass(kind, KeypointMatcher) and not kind.unavailable()
}
every_matcher = pytest.mark.parametrize("name", MATCHERS)


@every_matcher
def test_keypoints_lie_where_they_are(name: str, texture: Callable[..., np.ndarray]) -> None:
    """A shift of a detector shows twice in an image that is turned by 180 degrees.

    The size is no multiple of two, so that the levels of a pyramid have sizes of their own.
    """
    image = texture(375, 501, seed=1)
    matches = MATCHERS[name]().match_pair(image, image[::-1, ::-1].copy())
    errors = matches[:, 2:] - (np.float32([500, 374]) - matches[:, :2])
    right = np.hypot(*errors.T) < 3
    assert right.mean() > 0.9
    assert right.sum() > 100
    assert np.abs(errors[right].mean(axis=0)).max() < 0.03


@every_matcher
def test_scale_and_rotation_are_followed(name: str, texture: Callable[..., np.ndarray]) -> None:
    image = texture(300, 400, seed=2)
    turn = cv2.getRotationMatrix2D((200, 150), 35, 0.7)
    turned = cv2.warpAffine(image, turn, (400, 300), flags=cv2.INTER_AREA)
    matches = MATCHERS[name]().match_pair(image, turned)
    truth = matches[:, :2] @ turn[:, :2].T + turn[:, 2]
    assert (np.hypot(*(matches[:, 2:] - truth).T) < 3).mean() > 0.5
    assert len(matches) > 30


@every_matcher
def test_keypoints_are_bounded_and_matched_once(
    name: str, texture: Callable[..., np.ndarray]
) -> None:
    image = texture(120, 160, seed=3)
    matches = MATCHERS[name](keypoints=40).match_pair(image, image)
    assert matches.dtype == np.float32
    assert 20 < len(matches) <= 40
    assert len(np.unique(matches[:, :2], axis=0)) == len(matches)
    np.testing.assert_array_equal(matches[:, 2:], matches[:, :2])


@every_matcher
def test_flat_images_have_no_matches_and_colour_is_read_as_luma(
    name: str, texture: Callable[..., np.ndarray]
) -> None:
    grey = texture(90, 130, seed=4)
    flat = np.full((90, 130), 128, np.uint8)
    matcher = MATCHERS[name]()
    for pair in ((flat, flat), (grey, flat), (flat, grey)):
        assert matcher.match_pair(*pair).shape == (0, 4)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(matcher.match_pair(rgb, rgb), matcher.match_pair(grey, grey))


def random_keypoints(seed: int, positions: int, rows: int) -> tuple[Keypoints, np.ndarray]:
    """Keypoints of several orientations, and the position's index of each row."""
    rng = np.random.default_rng(seed)
    owner = np.sort(np.concatenate([np.arange(positions), rng.integers(0, positions, rows)]))
    described = rng.integers(0, 9, (len(owner), 4)).astype(np.float32)
    places = rng.uniform(0, 99, (positions, 2)).astype(np.float32)
    return Keypoints(places, described, np.flatnonzero(np.diff(owner, prepend=-1))), owner


@pytest.mark.parametrize("ratio", [None, 0.8])
@pytest.mark.parametrize("seed", range(5))
def test_matches_are_mutual_nearest_positions(seed: int, ratio: float | None) -> None:
    found0, owner0 = random_keypoints(seed, 30, 12)
    found1, owner1 = random_keypoints(seed + 100, 25, 9)
    distance = np.array(
        [
            [
                min(
                    np.linalg.norm(row0 - row1)
                    for row0 in found0.rows_MD[owner0 == i].astype(float)
                    for row1 in found1.rows_MD[owner1 == j].astype(float)
                )
                for j in range(25)
            ]
            for i in range(30)
        ]
    )
    expected = []
    for i, row in enumerate(distance):
        j = int(row.argmin())
        passes = ratio is None or row[j] < ratio * np.delete(row, j).min()
        if int(distance[:, j].argmin()) == i and passes:
            expected.append([*found0.positions_K2[i], *found1.positions_K2[j]])
    assert expected
    np.testing.assert_allclose(match_keypoints(found0, found1, ratio), expected)


def test_strongest_positions_keep_all_their_orientations() -> None:
    points = np.float32([[5, 1], [2, 2], [5, 1], [9, 9], [2, 2], [7, 3]])
    rows = np.arange(6, dtype=np.float32)[:, None]
    found = strongest(points, rows, np.array([3.0, 5, 3, 1, 4, 3]), 3)
    np.testing.assert_array_equal(found.positions_K2, [[2, 2], [5, 1], [7, 3]])
    np.testing.assert_array_equal(found.rows_MD[:, 0], [1, 4, 0, 2, 5])
    np.testing.assert_array_equal(found.start_K, [0, 2, 4])
