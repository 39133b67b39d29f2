"""What inspect says and draws of shards."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.inspect import (
    draw_sample,
    draw_sheet,
    summarize_dataset,
    summarize_sample,
)
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.statistics import (
    coverage,
    dataset_statistics,
    displacement,
    spread_indices,
)
from ucn.preprocessing.shards.write import write_manifest, write_shard
from ucn.storage.stores import open_store


@pytest.fixture
def dataset(tmp_path: Path, make_sample: Callable[..., Sample]) -> ShardDataset:
    samples = [make_sample(index, matches=5 + index) for index in range(6)]
    store = open_store(tmp_path)
    write_manifest(
        store, [write_shard(store, "train-000000.tar", samples, "rgb-png", "c", "f")], {}
    )
    return ShardDataset(tmp_path)


def test_statistics_are_those_of_the_samples(dataset: ShardDataset) -> None:
    statistics = dataset_statistics(dataset)
    assert (statistics.pairs, statistics.matches) == (6, sum(range(5, 11)))
    assert statistics.counts_S.tolist() == [5, 6, 7, 8, 9, 10]
    expected = [
        np.linalg.norm(m[2:].astype(float) - m[:2]) for i in range(6) for m in dataset[i].matches_N4
    ]
    np.testing.assert_allclose(np.sort(statistics.displacement_M), np.sort(expected))
    depths = np.concatenate([dataset[index].attributes["depth0"] for index in range(6)])
    np.testing.assert_allclose(np.sort(statistics.depth_M), np.sort(depths))
    text = summarize_dataset(statistics)
    assert text.startswith("6 pairs, 45 matches\n")
    assert "matches a pair     5 / 8 / 10" in text


def test_a_few_pairs_stand_for_many(dataset: ShardDataset) -> None:
    assert dataset_statistics(dataset, max_pairs=2).counts_S.tolist() == [5, 10]
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
    assert "units" in summarize_sample(sample)


def test_the_sheet_shows_histograms_above_the_pairs(dataset: ShardDataset) -> None:
    sheet = draw_sheet(dataset)
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    assert sheet[:220].std() > 5
    assert sheet[220:].std() > 5
