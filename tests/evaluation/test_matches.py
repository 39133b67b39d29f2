"""Tables of matches: exact, resumable, and safe from other or damaged files."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.evaluation.matches import SCHEMA, Matches, MatchTable, PairMatches, from_table, to_table


def random_matches(seed: int) -> dict[str, Matches]:
    rng = np.random.default_rng(seed)
    found = {}
    for kind, count in zip(("point", "sparse/sift", "own"), rng.integers(0, 4, 3), strict=True):
        columns = [rng.random((count, *size)).astype(np.float32) for size in ((4,), (), (), (), ())]
        columns[0][:, 2:][rng.random(count) < 0.3] = np.nan
        columns[3][rng.random(count) < 0.3] = np.inf
        found[kind] = Matches(*columns)
    return found


def assert_equal(found: PairMatches, expected: PairMatches) -> None:
    """Equal in every bit, and in types."""
    assert found.keys() == expected.keys()
    for kind, matches in found.items():
        for one, two in zip(vars(matches).values(), vars(expected[kind]).values(), strict=True):
            assert one.dtype == two.dtype == np.float32
            np.testing.assert_array_equal(one, two)


@pytest.fixture
def table(tmp_path: Path) -> MatchTable:
    return reopened(tmp_path)


def reopened(folder: Path, identity: str = "a") -> MatchTable:
    return MatchTable(folder / "out" / "ucn.parquet", folder / "parts", identity)


@given(st.integers(0, 2**32 - 1))
def test_rows_are_the_matches(seed: int) -> None:
    """Kinds without a query included."""
    assert_equal(from_table(to_table(5, random_matches(seed))), random_matches(seed))


def test_pairs_are_kept_one_by_one_and_merged(tmp_path: Path, table: MatchTable) -> None:
    for index in (7, 2):
        table.keep(index, random_matches(index))
    assert not (tmp_path / "out").exists()
    resumed = reopened(tmp_path)
    assert [index in resumed for index in (2, 3, 7)] == [True, False, True]
    resumed.keep(3, random_matches(3))
    resumed.publish()
    for part in (tmp_path / "parts").iterdir():
        part.unlink()
    merged = reopened(tmp_path)
    for index in (2, 3, 7):
        assert_equal(merged[index], random_matches(index))
    stored = pq.read_table(tmp_path / "out" / "ucn.parquet")
    assert stored.schema.names == SCHEMA.names
    assert stored["pair"].to_pylist() == sorted(stored["pair"].to_pylist())


def test_a_table_without_new_pairs_is_not_written_again(tmp_path: Path, table: MatchTable) -> None:
    table.keep(1, random_matches(1))
    table.publish()
    (part,) = (tmp_path / "parts").iterdir()
    part.unlink()
    before = (tmp_path / "out" / "ucn.parquet").stat().st_ino
    again = reopened(tmp_path)
    again.publish()
    assert (tmp_path / "out" / "ucn.parquet").stat().st_ino == before
    again.keep(0, random_matches(0))
    again.publish()
    assert (tmp_path / "out" / "ucn.parquet").stat().st_ino != before
    assert 1 in reopened(tmp_path)


def test_matches_of_another_identity_are_not_read(tmp_path: Path, table: MatchTable) -> None:
    table.keep(1, random_matches(1))
    assert 1 not in reopened(tmp_path, "b")
    table.publish()
    assert 1 not in reopened(tmp_path, "b")
    assert 1 in reopened(tmp_path)


@pytest.mark.parametrize("published", [False, True])
def test_damaged_files_are_not_read(published: bool, tmp_path: Path, table: MatchTable) -> None:
    table.keep(1, random_matches(6))
    (path,) = (tmp_path / "parts").iterdir()
    if published:
        table.publish()
        path.unlink()
        path = tmp_path / "out" / "ucn.parquet"
    whole = path.read_bytes()
    for damaged in (b"", b"PAR1", whole[:-200]):
        path.write_bytes(damaged)
        assert 1 not in reopened(tmp_path)
    read = 0
    for place in range(0, len(whole), 29):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        if 1 in reopened(tmp_path):  # a byte that does not matter
            assert_equal(reopened(tmp_path)[1], random_matches(6))
            read += 1
    assert read < len(whole) / 29 / 2
