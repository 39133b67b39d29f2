"""Matches made elsewhere: flow files and match files by the key of the pair."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.matches import OWN, POINT, Matches
from ucn.evaluation.methods.build import Method, method_labels, named_external
from ucn.evaluation.methods.external import check_external
from ucn.evaluation.pair import match_pair, pair_queries
from ucn.evaluation.truth import pair_truth
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.read import ShardDataset

UNKNOWN = 1e10


def write_flo(path: Path, flow: np.ndarray) -> None:
    height, width = flow.shape[:2]
    header = struct.pack("<fii", 202021.25, width, height)
    path.write_bytes(header + flow.astype("<f4").tobytes())


def matched(sample: Sample, folder: Path, **options: object) -> dict[str, Matches]:
    config = EvaluateConfig.model_validate({"shards": ("unused",), "filters": True} | options)
    queries = pair_queries(sample, pair_truth(sample, 0, config), 0, config)
    return match_pair(sample, Method("raft", external=folder), queries, config)


def test_flow_is_sampled_bilinearly_where_it_is_known(
    tmp_path: Path, rigid: Callable[..., Sample]
) -> None:
    sample = rigid(12)
    y, x = np.mgrid[0:90, 0:120].astype(float)
    flow = np.stack([3 + 0.25 * x - 0.5 * y, 0.125 * x + y], axis=-1)
    flow[30, 30] = UNKNOWN
    write_flo(tmp_path / f"{sample.key}.flo", flow)
    points = sample.matches_N4[:, :2].copy()
    points[0] = (20.5, 41.25)
    points[1:5] = [(30, 30), (29.5, 30), (29, 30), (30, 31)]
    sample.matches_N4[:, :2] = points
    found = matched(sample, tmp_path, points=10**6)
    assert list(found) == [POINT]
    ends = points + np.stack(
        [3 + 0.25 * points[:, 0] - 0.5 * points[:, 1], 0.125 * points[:, 0] + points[:, 1]], axis=1
    )
    # Unknown flow has weight at the second and the third point, and none beside it.
    is_unknown = ((np.abs(points - 30) < 1).all(axis=1)).astype(bool)
    assert is_unknown[1:5].tolist() == [True, True, False, False]
    np.testing.assert_allclose(found[POINT].matches_N4[~is_unknown, 2:], ends[~is_unknown])
    assert np.isnan(found[POINT].matches_N4[is_unknown, 2:]).all()
    # It is not known in the other direction.
    assert np.isnan(found[POINT].back_px_N).all()


def test_match_files_answer_points_within_two_pixels(
    tmp_path: Path, rigid: Callable[..., Sample]
) -> None:
    sample = rigid(12)
    own = np.float64([[3, 5, 1, 2], [60, 45, 7, 8], [90, 60, np.nan, 1]])
    np.savez(tmp_path / f"{sample.key}.npz", matches=own)
    found = matched(sample, tmp_path, points=10**6)
    np.testing.assert_array_equal(found[OWN].matches_N4, own[:2].astype(np.float32))
    answers = found[POINT].matches_N4
    near = np.linalg.norm(answers[:, None, :2] - own[:2, :2], axis=2) <= 2
    np.testing.assert_array_equal(np.isfinite(answers[:, 2]), near.any(axis=1))
    assert answers[near[:, 1], 2:].tolist() == [[7, 8]]


def test_a_pair_without_a_file_has_no_matches(tmp_path: Path, rigid: Callable[..., Sample]) -> None:
    found = matched(rigid(12), tmp_path)
    assert np.isnan(found[POINT].matches_N4[:, 2:]).all()
    assert found[OWN].matches_N4.shape == (0, 4)


def test_files_are_counted_and_identified(tmp_path: Path, shift_set: Path) -> None:
    dataset = ShardDataset(shift_set)
    for index in (1, 3):
        np.savez(tmp_path / f"{dataset.keys[index]}.npz", matches=np.zeros((2, 4)))
    every, some = check_external("raft", tmp_path, [(dataset, [0, 1, 2, 3]), (dataset, [1, 2])])
    assert (every.missing, some.missing) == (2, 1)
    assert every.digest != some.digest
    np.savez(tmp_path / f"{dataset.keys[3]}.npz", matches=np.ones((2, 4)))
    (again,) = check_external("raft", tmp_path, [(dataset, [0, 1, 2, 3])])
    assert again.digest != every.digest


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (".npz", {"matches": np.zeros((5, 3))}, r"float64 \(5, 3\)"),
        (".npz", {"matches": np.array(["a"] * 4)[None]}, "<U1"),
        (".npz", {"matches": np.full((1, 4), None)}, "code"),
        (".npz", {"points": np.zeros((5, 4))}, "matches"),
        (".npz", None, "zip"),
        (".flo", np.zeros((90, 119, 2)), "119x90 pixels; image 0 has 120x90"),
        (".flo", None, "cut short"),
    ],
)
def test_wrong_files_are_named_before_the_work(
    name: str, data: object, message: str, tmp_path: Path, shift_set: Path
) -> None:
    dataset = ShardDataset(shift_set)
    path = tmp_path / f"{dataset.keys[0]}{name}"
    if data is None:
        path.write_bytes(b"nothing")
    elif name == ".flo":
        write_flo(path, data)
    else:
        np.savez(path, **data)
    with pytest.raises(UserError, match=message) as error:
        check_external("raft", tmp_path, [(dataset, [0, 1])])
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_folders_without_files_are_refused(tmp_path: Path, shift_set: Path) -> None:
    dataset = ShardDataset(shift_set)
    with pytest.raises(UserError, match="no such folder"):
        check_external("raft", tmp_path / "none", [(dataset, [0])])
    with pytest.raises(UserError, match=f"no file for any pair.*{dataset.keys[1]}"):
        check_external("raft", tmp_path, [(dataset, [1]), (dataset, [2])])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("raft",), "NAME=DIR"),
        (("a/b=c",), "NAME=DIR"),
        (("raft=",), "NAME=DIR"),
        (("raft=a", "raft=b"), "taken"),
        (("ucn=a",), "taken"),
        (("daisy=a",), "taken"),
    ],
)
def test_bad_names_are_refused(values: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        named_external(EvaluateConfig(shards=("a",), model=("runs/model",), external=values))


def test_metrics_are_named_after_the_method() -> None:
    config = EvaluateConfig(shards=("a",), baselines=(), external=("raft=a", "loftr=b/c"))
    assert [(label.title, label.prefix) for label in method_labels(config)] == [
        ("raft", "external/raft/"),
        ("loftr", "external/loftr/"),
    ]
    assert named_external(config) == [("raft", Path("a")), ("loftr", Path("b/c"))]
