from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from evaluation.baselines import BASELINES
from evaluation.match import (
    ImageMatches,
    Keypoints,
    corner_points,
    even_points,
    match_images,
    write_matches,
)
from preprocessing.sample import Sample

MATCHES = ImageMatches(
    np.float32([[1, 2, 30, 40], [5, 6, 30, 40], [7, 8, 3, 4]]), np.float32([0.9, 0.8, 0.7])
)


@pytest.mark.parametrize("keypoints", ["corners", "grid"])
def test_shift_is_found(keypoints: Keypoints, shifted: Callable[..., Sample]) -> None:
    sample = shifted((8, -4))
    found = match_images(
        sample.image0, sample.image1, BASELINES["sift"], keypoints=keypoints, count=300
    )
    assert 50 < len(found.matches_N4) <= 300
    shift = found.matches_N4[:, 2:] - found.matches_N4[:, :2]
    assert np.linalg.norm(np.median(shift, axis=0) - [8, -4]) <= 1.5
    assert (np.diff(found.scores_N) <= 0).all()


def test_featureless_image_has_no_matches() -> None:
    flat = np.zeros((40, 50), np.uint8)
    found = match_images(flat, flat, BASELINES["sift"])
    assert found.matches_N4.shape == (0, 4)
    assert found.scores_N.shape == (0,)


@pytest.mark.parametrize("count", [1, 7, 100, 10**6])
def test_even_points_are_at_most_count_and_inside(count: int) -> None:
    points = even_points(np.zeros((33, 50), np.uint8), count)
    assert 1 <= len(points) <= min(count, 33 * 50)
    corners = corner_points(np.eye(50, dtype=np.uint8) * 255, count)
    assert len(corners) <= count


def test_npz_reads_without_pickle(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    write_matches(path, MATCHES, "a/0.png", "b.png")
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["matches"], MATCHES.matches_N4)
        np.testing.assert_array_equal(file["scores"], MATCHES.scores_N)
        assert (str(file["name0"]), str(file["name1"])) == ("a/0.png", "b.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.npz"]


def test_h5_rebuilds_the_matches(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    write_matches(path, MATCHES, "a/0.png", "b.png")
    with h5py.File(path) as file:
        group = file["a-0.png/b.png"]
        keypoints0, keypoints1 = group["keypoints0"][:], group["keypoints1"][:]
        rows = group["matches0"][:]
        assert len(keypoints1) == 2
        rebuilt = np.concatenate([keypoints0, keypoints1[rows]], axis=1)
        np.testing.assert_array_equal(rebuilt, MATCHES.matches_N4)
        np.testing.assert_array_equal(group["matching_scores0"][:], MATCHES.scores_N)


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.npz or \.h5"):
        write_matches(tmp_path / "m.txt", MATCHES, "a", "b")
    assert not list(tmp_path.iterdir())
