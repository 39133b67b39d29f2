"""The index of a dataset: the same as the sidecars, one read, and never trusted blindly."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards import format as shard_format
from ucn.preprocessing.shards.format import IndexEntry, ShardEntry, read_manifest
from ucn.preprocessing.shards.index import IndexTable, encode_index, index_of_sidecars, read_index
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.shards.write import write_manifest, write_shard
from ucn.preprocessing.sources.kitti.raw import KittiRawConfig
from ucn.storage.stores import LocalStore, open_store, write_bytes

Maker = Callable[[int], Sample]

members = st.dictionaries(
    st.sampled_from(["image0.png", "image1.jpg", "matches.npy", "attributes.npz", "json"]),
    st.tuples(st.integers(2**40, 2**40 + 2**31), st.integers(0, 2**20)),
    min_size=1,
)
entries = st.builds(
    IndexEntry,
    key=st.text(st.characters(exclude_characters="./\\\x7f", min_codepoint=32), min_size=1).filter(
        lambda key: len(key.encode("utf-8", "surrogatepass")) < 200 and key.isprintable()
    ),
    sequence=st.sampled_from(["a", "b", "é"]),
    matches=st.integers(0, 2**40),
    members=members,
)


def shard(name: str, index: list[IndexEntry]) -> ShardEntry:
    return ShardEntry(
        name=name, samples=len(index), matches=0, bytes=2**41, sha256="0a", sidecar_sha256=""
    )


@given(shards=st.lists(st.lists(entries, max_size=4), max_size=5), data=st.data())
def test_every_sample_is_found_whatever_the_order_of_completion(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[IndexEntry]], data: st.DataObject
) -> None:
    store = open_store(tmp_path_factory.mktemp("index"))
    rows = [shard(f"t-{at}.tar", index) for at, index in enumerate(shards)]
    encoded = []
    for order in (range(len(rows)), data.draw(st.permutations(range(len(rows))))):
        table = IndexTable()
        for at in order:
            table.add(rows[at].name, shards[at])
        encoded.append(encode_index(rows, table))
    assert encoded[0].equals(encoded[1])
    write_bytes(store, "index.parquet", encoded[0])
    expected = [(f"t-{at}.tar", entry) for at, index in enumerate(shards) for entry in index]
    for index in (read_index(store, rows), index_of_sidecars(rows, shards)):
        assert [tuple(index.locate(number)) for number in range(len(index))] == expected
        for number, (_, entry) in enumerate(expected):
            found = index.find(entry.key)
            assert found is not None
            assert found <= number
            assert expected[found][1].key == entry.key
        assert index.find("not a key") is None


class CountingStore(LocalStore):
    reads: list[str] = []  # noqa: RUF012 -- the store is frozen

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        self.reads.append(name)
        return super().read(name, start, size)


@pytest.fixture
def dataset(tmp_path: Path, make_sample: Maker) -> Path:
    store = open_store(tmp_path)
    write_manifest(
        store,
        [
            write_shard(store, f"t-{at}.tar", map(make_sample, numbers), "grey-png", "c", "f")
            for at, numbers in enumerate([[0, 1], [], [2]])
        ],
        {"split": "t"},
    )
    return tmp_path


def test_a_dataset_is_opened_with_two_reads(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountingStore, "reads", [])
    monkeypatch.setattr("ucn.preprocessing.shards.read.open_store", CountingStore)
    opened = ShardDataset(str(dataset))
    assert CountingStore.reads == ["manifest.json", "index.parquet"]
    assert opened.keys == ["seq-0000", "seq-0001", "seq-0002"]


def test_without_an_index_the_sidecars_are_read(dataset: Path) -> None:
    with_index = ShardDataset(dataset)
    (dataset / "index.parquet").unlink()
    (dataset / "skipped.parquet").unlink()
    without = ShardDataset(dataset)
    assert without.keys == with_index.keys
    assert [without.locate(i) for i in range(3)] == [with_index.locate(i) for i in range(3)]
    np.testing.assert_array_equal(without[2].matches_N4, with_index[2].matches_N4)


def test_other_programs_can_read_the_index(dataset: Path) -> None:
    table = pq.read_table(dataset / "index.parquet")
    rows = table.to_pylist()
    assert [row["shard"] for row in rows] == ["t-0.tar", "t-0.tar", "t-2.tar"]
    manifest = read_manifest(open_store(dataset))
    assert rows[2]["sha256"] == manifest.shards[2].sha256
    tar = (dataset / rows[2]["shard"]).read_bytes()
    start = rows[2]["image0.png.offset"]
    png = tar[start : start + rows[2]["image0.png.size"]]
    assert png.startswith(b"\x89PNG")
    assert png.endswith(b"IEND\xaeB`\x82")


def change(dataset: Path, column: str, values: pa.Array) -> None:
    table = pq.read_table(dataset / "index.parquet")
    place = table.schema.get_field_index(column)
    changed = table.set_column(place, table.schema.field(place), values)
    pq.write_table(changed, dataset / "index.parquet")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("image0.png.offset", 2**40),
        ("image0.png.offset", -1),
        ("image0.png.size", 2**40),
        ("image0.png.size", -5),
        ("image0.png.offset", None),
    ],
)
def test_members_outside_their_tar_are_refused(
    dataset: Path, column: str, value: int | None
) -> None:
    old = pq.read_table(dataset / "index.parquet")[column].to_pylist()
    change(dataset, column, pa.array([*old[:2], value], pa.int64()))
    if value is None:
        assert "image0.png" not in ShardDataset(dataset).locate(2).entry.members
        return
    with pytest.raises(UserError, match=r"index\.parquet: not an index"):
        ShardDataset(dataset)


@pytest.mark.parametrize("key", ["../../etc/passwd", "a.b", "", "a\nb"])
def test_a_key_that_is_none_is_refused_when_it_is_used(dataset: Path, key: str) -> None:
    change(dataset, "key", pa.array(["seq-0000", "seq-0001", key]))
    opened = ShardDataset(dataset)
    assert opened[1].key == "seq-0001"
    with pytest.raises(UserError, match="sample 2 has an invalid name"):
        opened[2]


def test_an_index_of_other_shards_is_refused(dataset: Path, make_sample: Maker) -> None:
    stale = (dataset / "index.parquet").read_bytes()
    store = open_store(dataset)
    write_manifest(
        store, [write_shard(store, "t-0.tar", [make_sample(5)], "grey-png", "c", "f")], {}
    )
    (dataset / "index.parquet").write_bytes(stale)
    with pytest.raises(UserError, match=r"index\.parquet: is not of the shards"):
        ShardDataset(dataset)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"{}" * 50])
def test_a_damaged_index_is_refused_in_one_line(dataset: Path, data: bytes) -> None:
    (dataset / "index.parquet").write_bytes(data)
    with pytest.raises(UserError, match=r"index\.parquet: not an index") as caught:
        ShardDataset(dataset)
    assert "\n" not in str(caught.value)


def test_an_index_without_rows_for_all_samples_is_refused(dataset: Path) -> None:
    table = pq.read_table(dataset / "index.parquet")
    pq.write_table(table.slice(0, 2), dataset / "index.parquet")
    with pytest.raises(UserError, match="not 3 samples"):
        ShardDataset(dataset)


def test_skipped_inputs_are_all_in_parquet_and_the_first_in_the_manifest(
    tmp_path: Path, make_sample: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ucn.preprocessing.shards.write.LISTED_SKIPPED", 3)
    monkeypatch.setattr("ucn.preprocessing.shards.verify.LISTED_SKIPPED", 3)
    assert shard_format.LISTED_SKIPPED >= 1000
    store = open_store(tmp_path)
    skipped = [(f"bad-{i}", SkippedPair("no photo", f"{i}.png")) for i in range(5)]
    configuration = shard_format.digest({"split": "t"})
    made = write_shard(
        store, "t-000000.tar", [make_sample(0), *skipped], "grey-png", configuration, "f"
    )
    manifest = write_manifest(store, [made], {"split": "t"})
    assert manifest.totals.skipped == {"no photo": 5}
    assert [one.key for one in manifest.skipped] == ["bad-0", "bad-1", "bad-2"]
    assert pq.read_table(tmp_path / "skipped.parquet").to_pylist() == [
        {"shard": "t-000000.tar", "key": f"bad-{i}", "reason": "no photo", "detail": f"{i}.png"}
        for i in range(5)
    ]
    assert verify_dataset(tmp_path) == []


def test_a_rerun_adds_the_index_to_a_dataset_without_one(world_root: Path, tmp_path: Path) -> None:
    config = KittiRawConfig(
        root=str(world_root), out=str(tmp_path), gaps=(2,), pairs_per_shard=4, workers=0
    )
    preprocess(config)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")}
    (tmp_path / "index.parquet").unlink()
    (tmp_path / "skipped.parquet").unlink()
    assert verify_dataset(tmp_path) == []
    preprocess(config)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")} == times
