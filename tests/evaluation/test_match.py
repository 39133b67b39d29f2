"""Matching two images: the search, its filters, and the files."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.dense_matching import describe_pair
from ucn.errors import UserError
from ucn.evaluation.config import MatchingConfig
from ucn.evaluation.export.config import MatchOptions, StartingPoints
from ucn.evaluation.export.files import check_output, write_matches
from ucn.evaluation.export.match import (
    ImageMatches,
    corner_points,
    even_points,
    match_features,
    starting_points,
    stepped_points,
)
from ucn.evaluation.export.pairs import PairMatches, merge_keypoints, unique_matches
from ucn.evaluation.methods.baselines.dense_sift import describe_sift
from ucn.evaluation.methods.baselines.opencv_descriptors import Daisy
from ucn.preprocessing.sample import Sample

FOUND = ImageMatches(
    np.float32([[1, 2, 30, 40], [5, 6, 30, 40], [7, 8, 3, 4]]), np.float32([0.9, 0.8, 0.7])
)
PAIR = PairMatches(("a/0.png", "b.png"), ((60, 50), (40, 45)), FOUND)


def match_images(image0: np.ndarray, image1: np.ndarray, options: MatchOptions) -> ImageMatches:
    images = image0, image1
    return match_features(*describe_pair(images, describe_sift, MatchingConfig()), options)


@pytest.mark.parametrize("keypoints_from", ["corners", "sift", "fast", "grid"])
def test_shift_is_found(keypoints_from: StartingPoints, shifted: Callable[..., Sample]) -> None:
    sample = shifted((8, -4))
    options = MatchOptions(keypoints_from=keypoints_from, keypoints=300)
    found = match_images(sample.image0, sample.image1, options)
    assert 50 < len(found.matches_N4) <= 300
    shift = found.matches_N4[:, 2:] - found.matches_N4[:, :2]
    assert np.linalg.norm(np.median(shift, axis=0) - [8, -4]) <= 1.5
    assert (np.diff(found.scores_N) <= 0).all()


def test_filters_follow_one_another(shifted: Callable[..., Sample]) -> None:
    sample = shifted((8, -4))
    every = MatchOptions(
        grid=5, min_similarity=0.95, ratio=0.9, reciprocity_px=3.0, stability_px=3.0, seed=4
    )
    none = MatchOptions(grid=5, reciprocity_px=0)
    found, unfiltered = (
        match_images(sample.image0, sample.image1, options) for options in (every, none)
    )
    names, counts = zip(*found.counts, strict=True)
    assert names == ("starting points", "similarity", "ratio", "reciprocity", "stability")
    assert list(counts) == sorted(counts, reverse=True)
    assert 0 < counts[-1] < counts[1] < counts[0] == 24 * 18
    assert counts[-1] == len(found.matches_N4)
    assert found.scores_N.min() >= 0.95
    assert unfiltered.counts == (("starting points", 24 * 18),)
    assert set(map(tuple, found.matches_N4)) <= set(map(tuple, unfiltered.matches_N4))

    def share_right(matches: ImageMatches) -> float:
        shift = matches.matches_N4[:, 2:] - matches.matches_N4[:, :2]
        return float((np.linalg.norm(shift - [8, -4], axis=1) <= 2).mean())

    assert share_right(found) > share_right(unfiltered)


@pytest.mark.parametrize("keypoints_from", ["corners", "sift", "fast"])
def test_featureless_image_has_no_matches(keypoints_from: StartingPoints) -> None:
    flat = np.zeros((40, 50), np.uint8)
    found = match_images(flat, flat, MatchOptions(keypoints_from=keypoints_from))
    assert found.matches_N4.shape == (0, 4)
    assert found.scores_N.shape == (0,)
    assert found.counts == (("starting points", 0),)


def test_images_that_are_not_described_alike_are_refused(shifted: Callable[..., Sample]) -> None:
    images = shifted((0, 0)).image0, shifted((0, 0)).image1
    first, _ = describe_pair(images, describe_sift, MatchingConfig())
    for describe, scales in ((describe_sift, 3), (Daisy().describe, 1)):
        _, other = describe_pair(images, describe, MatchingConfig(scales=scales))
        with pytest.raises(ValueError, match="not described alike"):
            match_features(first, other)


@pytest.mark.parametrize("count", [1, 7, 100, 10**6])
def test_even_points_are_at_most_count_and_inside(count: int) -> None:
    points = even_points(np.zeros((33, 50), np.uint8), count)
    assert 1 <= len(points) <= min(count, 33 * 50)
    assert (points < (50, 33)).all()
    corners = corner_points(np.eye(50, dtype=np.uint8) * 255, count)
    assert len(corners) <= count


def test_a_step_goes_before_a_count() -> None:
    image = np.zeros((9, 10), np.uint8)
    points = starting_points(image, MatchOptions(grid=4, keypoints=1))
    np.testing.assert_array_equal(points, stepped_points(image, 4))
    np.testing.assert_array_equal(points, [[1, 1], [5, 1], [9, 1], [1, 5], [5, 5], [9, 5]])


@given(
    arrays(np.float32, st.tuples(st.integers(0, 9), st.just(2)), elements=st.integers(0, 3)),
    arrays(np.float32, st.tuples(st.integers(0, 9), st.just(2)), elements=st.integers(0, 3)),
)
def test_merged_keypoints_keep_their_rows(known: np.ndarray, points: np.ndarray) -> None:
    keypoints, rows = merge_keypoints(known, points, 0)
    np.testing.assert_array_equal(keypoints[: len(known)], known)
    np.testing.assert_array_equal(keypoints[rows], points)
    new = set(map(tuple, points)) - set(map(tuple, known))
    assert len(keypoints) == len(known) + len(new)
    again, same_rows = merge_keypoints(keypoints, points, 0)
    np.testing.assert_array_equal(again, keypoints)
    np.testing.assert_array_equal(same_rows, rows)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 3.0))
def test_points_near_a_keypoint_become_it(seed: int, radius_px: float) -> None:
    rng = np.random.default_rng(seed)
    known, points = (rng.random((count, 2), np.float32) * 20 for count in (15, 25))
    keypoints, rows = merge_keypoints(known, points, radius_px)
    distance = np.linalg.norm(points[:, None] - known, axis=2).astype(np.float64)
    nearest = distance.min(axis=1)
    merged = nearest < radius_px - 1e-5
    np.testing.assert_array_equal(rows[merged], distance.argmin(axis=1)[merged])
    apart = nearest > radius_px + 1e-5
    np.testing.assert_array_equal(keypoints[rows[apart]], points[apart])
    assert len(keypoints) == len(known) + len(np.unique(rows[rows >= len(known)]))


def test_a_keypoint_keeps_its_first_match() -> None:
    rows0, rows1 = np.array([4, 4, 2, 0, 7]), np.array([1, 3, 1, 5, 5])
    assert unique_matches(rows0, rows1).tolist() == [0, 3]


def test_npz_reads_without_pickle(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    assert write_matches(path, [PAIR], 0) == [path]
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["matches"], FOUND.matches_N4)
        np.testing.assert_array_equal(file["scores"], FOUND.scores_N)
        assert (str(file["name0"]), str(file["name1"])) == ("a/0.png", "b.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.npz"]


def read_as_hloc(path: Path, name0: str, name1: str) -> np.ndarray:
    """Matches [N, 4] as hloc's users get them: pairs of rows of the keypoints' file."""
    with h5py.File(path) as file:
        group = file[f"{name0.replace('/', '-')}/{name1.replace('/', '-')}"]
        matches0 = group["matches0"][()]
        assert len(group["matching_scores0"]) == len(matches0)
    rows0 = np.flatnonzero(matches0 > -1)
    with h5py.File(path.with_name(f"{path.stem}-keypoints.h5")) as file:
        ends = file[name0]["keypoints"][()][rows0], file[name1]["keypoints"][()][matches0[rows0]]
    return np.concatenate(ends, axis=1)


def test_h5_reads_as_hloc_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    rng = np.random.default_rng(2)
    matches = rng.permutation(4 * 9).reshape(9, 4).astype(np.float32)
    # The photo that is second here is first there, with one end in common.
    matches[0, :2] = FOUND.matches_N4[2, 2:]
    scores = np.sort(rng.random(9).astype(np.float32))[::-1]
    sizes = PAIR.sizes[1], (70, 80)
    other = PairMatches(("b.png", "c.png"), sizes, ImageMatches(matches, scores))
    assert write_matches(path, [PAIR, other], 0) == [path, tmp_path / "m-keypoints.h5"]

    # Of two matches of one position the better is kept.
    np.testing.assert_array_equal(read_as_hloc(path, "a/0.png", "b.png"), FOUND.matches_N4[[0, 2]])
    found = read_as_hloc(path, "b.png", "c.png")
    assert set(map(tuple, found)) == set(map(tuple, matches))
    with h5py.File(path) as file:
        group = file["a-0.png/b.png"]
        together = np.concatenate([group["keypoints0"], group["keypoints1"]], axis=1)
        np.testing.assert_array_equal(together, FOUND.matches_N4)
        np.testing.assert_array_equal(group["scores"], FOUND.scores_N)
    with h5py.File(tmp_path / "m-keypoints.h5") as file:
        assert file["a/0.png/image_size"][()].tolist() == [60, 50]
        assert len(file["b.png/keypoints"]) == 2 + 9 - 1
    assert len(list(tmp_path.iterdir())) == 2


def test_matches_of_a_photo_refer_to_all_its_keypoints(tmp_path: Path) -> None:
    """hloc indexes ``matches0`` by keypoints, also by those that later pairs add."""
    rng = np.random.default_rng(3)
    names = [("a", "b"), ("c", "a"), ("a", "c"), ("b", "c")]
    pairs = [
        PairMatches(
            pair_names,
            ((64, 64), (64, 64)),
            ImageMatches(rng.integers(0, 64, (12, 4)).astype(np.float32), np.ones(12, np.float32)),
        )
        for pair_names in names
    ]
    matches_path, keypoints_path = write_matches(tmp_path / "m.h5", pairs, 0)
    with h5py.File(matches_path) as matches, h5py.File(keypoints_path) as keypoints:
        for name0, name1 in names:
            group, num_keypoints = matches[name0][name1], len(keypoints[name0]["keypoints"])
            assert len(group["matches0"]) == len(group["matching_scores0"]) == num_keypoints > 12
            assert group["matches0"][()].max() < len(keypoints[name1]["keypoints"])


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    names = PAIR.names
    with pytest.raises(UserError, match=r"\.npz, \.h5 or \.db; change the ending"):
        check_output(tmp_path / "m.txt", [names], tmp_path)
    with pytest.raises(UserError, match="holds one pair"):
        check_output(tmp_path / "m.npz", [names, ("b.png", "c.png")], tmp_path)
    with pytest.raises(UserError, match=r"a/0.png b.png and a-0.png b.png the same name"):
        check_output(tmp_path / "m.h5", [names, ("a-0.png", "b.png")], tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "m.h5").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        check_output(tmp_path / "m.h5", [names], tmp_path)
