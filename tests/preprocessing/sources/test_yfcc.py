"""The yfcc source: matches against exact truth, its lists, its choice of pairs."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.preprocessing.sources.yfcc_scenes import (
    View,
    config,
    render_scene,
    truth_errors,
    write_calibration,
    write_counts,
    write_scene,
)
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.yfcc.files import read_scene_lists, visible_pairs
from ucn.preprocessing.sources.yfcc.scenes import SCENES


@pytest.fixture(scope="module")
def scenes() -> list[list[View]]:
    return [render_scene(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, scenes: list[list[View]]) -> Path:
    folder = tmp_path_factory.mktemp("yfcc")
    for name, views in zip(SCENES["train"], scenes, strict=False):
        write_scene(folder, name, "train", views)
    return folder


@pytest.fixture(scope="module")
def samples(root: Path, scenes: list[list[View]]) -> list[tuple[Sample, View, View]]:
    source = config(root, scenes=SCENES["train"][: len(scenes)]).open_source()
    by_name = {f"{name}-train": views for name, views in zip(SCENES["train"], scenes, strict=False)}
    return [
        (source.load(pair), *(by_name[pair.sequence][int(frame)] for frame in pair[1:]))
        for pair in source.pairs()
    ]


def test_matches_are_true(samples: list[tuple[Sample, View, View]]) -> None:
    """0.5 % at most are over 4 px off, seen from either view; half are right to 0.3 px."""
    errors = []
    for sample, view0, view1 in samples:
        ends = np.hsplit(sample.matches_N4.astype(float), 2)
        there, back = truth_errors(view0, view1, *ends), truth_errors(view1, view0, *ends[::-1])
        errors.append(np.maximum(there, back))
    every = np.concatenate(errors)
    assert len(every) > 150 * len(samples)
    assert (every > 4).mean() < 0.005
    assert np.median(every) < 0.3


def test_matches_fit_the_geometry_exactly(samples: list[tuple[Sample, View, View]]) -> None:
    """Points triangulated by OpenCV from the true cameras fall on both ends."""
    for sample, *views in samples:
        ends = sample.matches_N4.astype(float).T
        cameras = [view.K @ np.column_stack([view.R, view.t]) for view in views]
        points = cv2.triangulatePoints(*cameras, ends[:2], ends[2:])
        for number, (view, P, seen) in enumerate(
            zip(views, cameras, (ends[:2], ends[2:]), strict=True)
        ):
            image = P @ points
            assert np.abs(image[:2] / image[2] - seen).max() < 0.01
            depth = (view.R @ (points[:3] / points[3]))[2] + view.t[2]
            assert sample.attributes[f"depth{number}"] == pytest.approx(depth, rel=1e-3)
            size = sample.metadata[f"size{number}"]
            assert (seen >= -0.5).all()
            assert (np.array(size) - 0.5 >= seen.T).all()


def test_no_point_is_matched_twice(samples: list[tuple[Sample, View, View]]) -> None:
    for sample, *_ in samples:
        for ends in np.hsplit(sample.matches_N4, 2):
            assert len(np.unique(ends.round(1), axis=0)) > 0.99 * len(ends)
        assert sample.attributes["error"].max() <= 1
        assert sample.attributes["ratio"].max() <= 0.8


def test_cameras_are_in_this_project_s_convention(
    samples: list[tuple[Sample, View, View]],
) -> None:
    for sample, view0, view1 in samples:
        metadata = sample.metadata
        T_1_0 = np.eye(4)
        T_1_0[:3, :3] = view1.R @ view0.R.T
        T_1_0[:3, 3] = view1.t - T_1_0[:3, :3] @ view0.t
        assert np.array(metadata["T_1_0"]) == pytest.approx(T_1_0, abs=1e-9)
        for number, view in enumerate((view0, view1)):
            assert np.array(metadata[f"K{number}"]) == pytest.approx(view.K, abs=1e-9)
            assert metadata[f"size{number}"] == list(view.size)
        assert (metadata["unit"], metadata["kind"]) == ("model", "rigid")
        assert metadata["labels"] == "sift"
        assert 0 < metadata["shift_median"] < 0.3


def test_reduced_images_keep_their_geometry(root: Path, scenes: list[list[View]]) -> None:
    scene = SCENES["train"][0]
    source = config(root, scenes=(scene,), max_side=280, images="rgb-png").open_source()
    sample = source.load(PairRef(f"{scene}-train", "000000", "000001"))
    assert sample.image0.shape == (210, 280, 3)
    assert sample.image1.shape == (228, 280, 3)
    # Back to the size that the truth belongs to.
    scale = np.array([400 / 280, 300 / 210, 380 / 280, 310 / 228])
    ends = np.hsplit((sample.matches_N4 + 0.5) * scale - 0.5, 2)
    errors = truth_errors(scenes[0][0], scenes[0][1], *ends)
    assert np.median(errors) < 0.5
    assert (errors > 4).mean() < 0.02
    pinhole = np.array(sample.metadata["K1"])
    assert pinhole[0, 2] == pytest.approx((scenes[0][1].K[0, 2] + 0.5) * 280 / 380 - 0.5)
    assert pinhole[1, 1] == pytest.approx(scenes[0][1].K[1, 1] * 228 / 310)


def test_shards_hold_what_the_source_makes_and_name_absent_scenes(
    root: Path, tmp_path: Path, samples: list[tuple[Sample, View, View]]
) -> None:
    out = tmp_path / "out"
    manifest = preprocess(config(root, out=str(out), scenes=(), pairs_per_shard=20))
    verify_dataset(str(out))
    dataset = ShardDataset(str(out))
    assert [one.key for one in map(dataset.__getitem__, range(len(dataset)))] == [
        sample.key for sample, *_ in samples
    ]
    assert (dataset[2].matches_N4 == samples[2][0].matches_N4).all()
    assert manifest.totals.skipped == {"absent scene": 60}
    text = json.dumps(json.loads((out / "manifest.json").read_text()))
    assert "western_wall_jerusalem-train" in text


def test_official_lists_share_no_scene() -> None:
    every = [scene for scenes in SCENES.values() for scene in scenes]
    assert {split: len(scenes) for split, scenes in SCENES.items()} == {
        "train": 64,
        "val": 4,
        "test": 4,
    }
    assert len(set(every)) == 72


def test_pairs_share_enough_points_and_are_a_seeded_choice(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 202, (60, 60))
    write_counts(tmp_path / "louvre" / "train", counts)
    expected = [(i, j) for i in range(60) for j in range(i + 1, 60) if counts[i, j] > 100]
    lists = read_scene_lists(tmp_path / "louvre" / "train")
    assert visible_pairs(lists, 100).tolist() == [list(pair) for pair in expected]

    def planned(**values: Any) -> list[tuple[int, int]]:
        pairs = config(tmp_path, **values).open_source().pairs()
        assert {pair.sequence for pair in pairs} == {"louvre-train"}
        return [(int(pair.frame0), int(pair.frame1)) for pair in pairs]

    assert planned() == expected
    some = planned(pairs_per_scene=100)
    assert len(some) == 100
    assert some == sorted(some)
    assert set(some) < set(expected)
    assert planned(pairs_per_scene=100) == some
    assert planned(pairs_per_scene=100, seed=1) != some
    assert len(planned(min_visibility=200)) == sum(counts[i, j] > 200 for i, j in expected)


def test_plan_knows_the_files(root: Path, tmp_path: Path) -> None:
    folder = write_scene(tmp_path)
    first = PairRef("louvre-train", "000000", "000001")

    def inputs() -> list[Any]:
        return config(tmp_path).open_source().input_fingerprint(first)

    before = inputs()
    assert json.loads(json.dumps(before)) == [list(one) for one in before]
    assert inputs() == before
    write_calibration(folder / "calibration/calibration_000001.h5", render_scene(1)[1])
    after = inputs()
    assert after[0] == before[0]
    assert after[1] != before[1]
    (folder / "images/00_photo.jpg").unlink()
    assert inputs()[0][1] == -1
