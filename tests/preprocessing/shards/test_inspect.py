"""What inspect says and draws of shards."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ucn.errors import UserError
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards import inspect
from ucn.preprocessing.shards.format import SkippedInput
from ucn.preprocessing.shards.inspect import (
    draw_sample,
    draw_sheet,
    summarize_dataset,
    summarize_sample,
)
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.statistics import (
    coverage,
    dataset_distributions,
    displacement,
    spread_indices,
)
from ucn.preprocessing.shards.write import write_manifest, write_shard
from ucn.storage.stores import open_store


@pytest.fixture
def dataset(tmp_path: Path, make_sample: Callable[..., Sample]) -> ShardDataset:
    return write(tmp_path, [make_sample(index, matches=5 + index) for index in range(6)])


def write(folder: Path, samples: list[Sample]) -> ShardDataset:
    store = open_store(folder)
    shard = write_shard(store, "train-000000.tar", samples, "rgb-png", "c", "f")
    write_manifest(store, [shard], {})
    return ShardDataset(folder)


def keypoint_sample(key: str, names: list[str], numbers: list[int]) -> Sample:
    """Black images, with keypoint n at (20 n + 10, 30) in image 0 and 8 px below in image 1."""
    x = 20.0 * np.array(numbers) + 10
    y = np.full(len(x), 30.0)
    return Sample(
        key=key,
        image0=np.zeros((80, 100, 3), np.uint8),
        image1=np.zeros((80, 100, 3), np.uint8),
        matches_N4=np.stack([x, y, x, y + 8], axis=1).astype(np.float32),
        metadata={"sequence": key, "frame0": "0", "frame1": "1", "keypoint_names": names},
        attributes={"keypoint": np.array(numbers, np.int32)},
    )


def test_distributions_are_those_of_the_samples(dataset: ShardDataset) -> None:
    found = {one.name: one.values for one in dataset_distributions(dataset)}
    assert list(found) == [
        "matches per pair",
        "displacement, px",
        "depth in image 0, units",
        "coverage of image 0, %",
    ]
    assert found["matches per pair"].tolist() == [5, 6, 7, 8, 9, 10]
    expected = [
        np.linalg.norm(m[2:].astype(float) - m[:2]) for i in range(6) for m in dataset[i].matches_N4
    ]
    np.testing.assert_allclose(np.sort(found["displacement, px"]), np.sort(expected))
    depths = np.concatenate([dataset[index].attributes["depth0"] for index in range(6)])
    np.testing.assert_allclose(np.sort(found["depth in image 0, units"]), np.sort(depths))


def test_the_summary_names_percentiles_and_counts_skipped_inputs(dataset: ShardDataset) -> None:
    totals = dataset.manifest.totals.model_copy(
        update={"matches": 12345678, "skipped": {"missing scan": 3, "too few matches": 4000}}
    )
    manifest = dataset.manifest.model_copy(update={"totals": totals})
    lines = summarize_dataset(manifest, dataset_distributions(dataset)).splitlines()
    assert lines[0].startswith("pairs 6, matches 12,345,678, shards 1,")
    assert lines[1].split() == ["5th", "percentile", "median", "95th", "percentile"]
    assert lines[2].split() == ["matches", "per", "pair", "5", "8", "10"]
    assert len({len(line) for line in lines[1:6]}) == 1
    at = lines.index("skipped inputs: 4,003")
    assert lines[at + 1 : at + 3] == ["  4,000 too few matches", "  3 missing scan"]


def test_a_sample_is_summarized_with_what_was_rejected(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(3, matches=40)
    sample.metadata["rejected"] = {"hidden": 1500, "duplicate": 0}
    text = summarize_sample(sample)
    assert text.startswith(f"{sample.key}: 40 matches")
    assert text.endswith("rejected candidates: 1,500\n  1,500 hidden")


def test_a_few_pairs_stand_for_many(dataset: ShardDataset) -> None:
    assert dataset_distributions(dataset, max_pairs=2)[0].values.tolist() == [5, 10]
    assert spread_indices(5, 9) == [0, 1, 2, 3, 4]
    assert spread_indices(100, 3) == [0, 50, 99]
    assert spread_indices(0, 3) == []


def test_coverage_counts_cells(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(1)
    wide = Sample(
        key="wide",
        image0=np.zeros((64, 96), np.uint8),
        image1=sample.image1,
        matches_N4=np.array([[0, 0, 1, 1], [31, 31, 2, 2], [33, 0, 3, 3]], np.float32),
        metadata={},
    )
    assert coverage(wide) == pytest.approx(2 / 6)
    np.testing.assert_allclose(displacement(wide.matches_N4)[0], np.sqrt(2))


def test_colours_show_displacement_or_depth(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(3, matches=40)
    by_displacement, by_depth = draw_sample(sample), draw_sample(sample, colour="depth")
    assert by_displacement.shape == by_depth.shape
    assert (by_displacement != by_depth).any()
    flat = Sample(sample.key, sample.image0, sample.image1, sample.matches_N4, sample.metadata)
    np.testing.assert_array_equal(draw_sample(flat, colour="depth"), by_displacement)


def test_the_sheet_shows_histograms_above_the_pairs(dataset: ShardDataset) -> None:
    sheet = draw_sheet(dataset, dataset_distributions(dataset))
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    assert sheet[:250].std() > 5
    assert sheet[250:].std() > 5


def test_a_keypoint_has_one_colour_in_all_pairs_and_in_the_legend(tmp_path: Path) -> None:
    names = ["beak", "tail", "crown"]
    samples = [keypoint_sample("a", names, [0, 1, 2]), keypoint_sample("b", names, [1, 2])]
    pictures = [draw_sample(sample) for sample in samples]
    ends = [
        [picture[row, 20 * number + 10 + column].tolist() for row, column in ((30, 0), (38, 106))]
        for picture, sample in zip(pictures, samples, strict=True)
        for number in sample.attributes["keypoint"]
    ]
    assert all(end0 == end1 for end0, end1 in ends)
    (beak, _), (tail, _), (crown, _), (tail_b, _), (crown_b, _) = ends
    assert (tail, crown) == (tail_b, crown_b)
    assert len({tuple(colour) for colour in (beak, tail, crown)}) == 3
    legend = pictures[1][80:].reshape(-1, 3).tolist()
    assert tail in legend
    assert crown in legend
    assert beak not in legend
    dataset = write(tmp_path, samples)
    sheet = draw_sheet(dataset, dataset_distributions(dataset), "displacement")
    assert not (sheet.reshape(-1, 3) == beak).all(axis=1).any()


def test_keypoints_without_names_are_told_by_number() -> None:
    named = draw_sample(keypoint_sample("a", [], [4, 1]))
    assert named.shape[1:] == (206, 3)
    assert named[30, 90].tolist() != named[30, 30].tolist()


def test_axes_fit_constants_and_integers() -> None:
    assert inspect._bin_edges(np.full(9, 15)).tolist() == [14.5, 15.5]
    assert inspect._bin_edges(5 + np.array([0, 1e-7, -1e-7])).tolist() == [4.5, 5.5]
    assert inspect._bin_edges(np.array([3, 5, 3])).tolist() == [2.5, 3.5, 4.5, 5.5]
    edges = inspect._bin_edges(np.linspace(0, 200, 1001))
    assert (edges[0], edges[-1], len(edges)) == (0, pytest.approx(199), 31)


def test_a_dataset_without_pairs_has_a_summary_but_no_picture(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    shard = write_shard(store, "train-000000.tar", [], "rgb-png", "c", "f")
    skipped = [SkippedInput(key="a", reason="missing scan")]
    manifest = write_manifest(store, [shard.model_copy(update={"skipped": skipped})], {})
    dataset = ShardDataset(tmp_path)
    assert dataset_distributions(dataset) == []
    assert "  1 missing scan" in summarize_dataset(manifest, [])
    with pytest.raises(UserError, match="no pairs to draw"):
        draw_sheet(dataset, [])
