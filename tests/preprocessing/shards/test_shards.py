"""The shard format: round trip, reproducible bytes, offsets, atomic publication."""

import hashlib
import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.encode import decode_image, decode_sample, encode_image, encode_sample
from ucn.preprocessing.shards.format import Sidecar, parse_sidecar, read_sidecar_bytes
from ucn.preprocessing.shards.read import ShardDataset, read_sample
from ucn.preprocessing.shards.tar import TarWriter
from ucn.preprocessing.shards.write import write_manifest, write_shard
from ucn.preprocessing.sources.stereo.motorcycle import MotorcycleConfig
from ucn.storage.stores import open_store

Maker = Callable[..., Sample]


def write(path: Path, samples: list[Sample]) -> None:
    write_shard(open_store(path.parent), path.name, samples, "grey-png", "c", "f")


def sidecar_of(tar: Path) -> Sidecar:
    store = open_store(tar.parent)
    return parse_sidecar(store, tar.name, read_sidecar_bytes(store, tar.name))


@pytest.mark.parametrize("image_format", ["grey-png", "rgb-png", "rgb-jpeg"])
def test_a_sample_survives_encoding(image_format: str, make_sample: Maker) -> None:
    sample = make_sample(3, grey=image_format == "grey-png")
    members = encode_sample(
        sample,
        image_format,
        lambda which: encode_image(sample.image1 if which else sample.image0, image_format),
    )
    assert list(members) == sorted(members)
    found = decode_sample(sample.key, members)
    np.testing.assert_array_equal(found.matches_N4, sample.matches_N4)
    np.testing.assert_array_equal(found.attributes["depth0"], sample.attributes["depth0"])
    assert found.metadata == sample.metadata
    if image_format != "rgb-jpeg":
        np.testing.assert_array_equal(found.image0, sample.image0)
        np.testing.assert_array_equal(found.image1, sample.image1)


def test_jpeg_keeps_colour_at_full_resolution() -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = (200, 40, 40)
    stripes[:, 1::2] = (40, 40, 200)
    found = decode_image(encode_image(stripes, "rgb-jpeg"))
    assert np.abs(found.astype(int) - stripes).mean() < 6


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_grey_png_is_lossless(image: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_image(encode_image(image, "grey-png")), image)


def test_equal_samples_give_equal_bytes(tmp_path: Path, make_sample: Maker) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "train-000000.tar", [make_sample(i) for i in range(4)])
    for file in ("train-000000.tar", "train-000000.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_offsets_are_those_a_tar_reader_finds(tmp_path: Path, make_sample: Maker) -> None:
    tar = tmp_path / "train-000000.tar"
    write(tar, [make_sample(i) for i in range(3)])
    sidecar = sidecar_of(tar)
    with tarfile.open(tar) as archive:
        members = {member.name: member for member in archive}
    assert all(member.mtime == 0 and member.uid == 0 for member in members.values())
    for entry in sidecar.index:
        for suffix, (offset, size) in entry.members.items():
            member = members.pop(f"{entry.key}.{suffix}")
            assert (member.offset_data, member.size) == (offset, size)
    assert not members
    sample = read_sample(open_store(tmp_path), tar.name, sidecar.index[2])
    np.testing.assert_array_equal(sample.matches_N4, make_sample(2).matches_N4)


@given(st.lists(st.binary(max_size=1600), max_size=24))
def test_tars_are_those_of_tarfile(members: list[bytes]) -> None:
    ours, theirs = io.BytesIO(), io.BytesIO()
    tar = TarWriter(ours)
    with tarfile.open(fileobj=theirs, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number, data in enumerate(members):
            info = tarfile.TarInfo(f"key-{number}.json")
            info.size, info.mode = len(data), 0o644
            info.uname = info.gname = "ucn"
            archive.addfile(info, io.BytesIO(data))
            tar.add(info.name, data)
    tar.finish()
    assert ours.getvalue() == theirs.getvalue()
    assert tar.size == len(ours.getvalue())
    assert tar.sha256.hexdigest() == hashlib.sha256(ours.getvalue()).hexdigest()


def test_webdataset_reads_the_shards(tmp_path: Path, make_sample: Maker) -> None:
    tar = tmp_path / "train-000000.tar"
    write(tar, [make_sample(i) for i in range(3)])
    samples = list(webdataset.WebDataset(str(tar), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == ["seq-0000", "seq-0001", "seq-0002"]
    np.testing.assert_array_equal(samples[1]["matches.npy"], make_sample(1).matches_N4)
    assert samples[1]["json"]["frame0"] == "1"
    assert {"image0.png", "image1.png", "attributes.npz"} <= set(samples[1])


def test_webdataset_reads_the_shards_by_the_lines_of_the_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = MotorcycleConfig(out="shards/train", max_matches=300, pairs_per_shard=1, workers=0)
    preprocess(config)
    (tar,) = Path("shards/train").glob("*.tar")
    shutil.copy(tar, tar.with_name("train-000001.tar"))
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
    capsys.readouterr()
    exec(page.split("```python\n")[1].split("```")[0], {})  # our own page
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.endswith("(300, 4) rigid") for line in lines)


def test_an_interrupted_writer_leaves_no_shard(tmp_path: Path, make_sample: Maker) -> None:
    tar = tmp_path / "train-000000.tar"

    def failing():
        yield make_sample(0)
        raise RuntimeError("killed")

    write(tar, [make_sample(9)])
    with pytest.raises(RuntimeError, match="killed"):
        write(tar, failing())
    assert not tar.with_suffix(".json").exists(), "it must go before the tar changes"
    assert not list(tmp_path.glob(".tmp-*"))


def test_long_keys_fit_into_a_tar(tmp_path: Path, make_sample: Maker) -> None:
    keys = ["k" * 85, "a" + "x" * 200, "b" + "x" * 200, "\u00fc" * 60]
    path = tmp_path / "train-000000.tar"
    write(path, [replace(make_sample(0), key=key) for key in keys])
    with tarfile.open(path) as archive:
        assert max(len(member.name.encode()) for member in archive) == 100
    read = webdataset.WebDataset(str(path), shardshuffle=False)
    found = [sample["__key__"] for sample in read]
    assert found == [entry.key for entry in sidecar_of(path).index]
    assert found[0] == keys[0]
    assert len(set(found)) == 4
    assert found[1].endswith("-" + "x" * 76)
    assert found[3].endswith("-" + "\u00fc" * 38)


def test_skipped_pairs_are_listed(tmp_path: Path, make_sample: Maker) -> None:
    outcomes = [make_sample(0), ("seq-0001", SkippedPair("missing scan", "17.bin"))]
    shard = write_shard(open_store(tmp_path), "train-000000.tar", outcomes, "grey-png", "c", "f")
    assert shard.entry.samples == 1
    assert [(one.key, one.reason, one.detail) for one in shard.skipped] == [
        ("seq-0001", "missing scan", "17.bin")
    ]


def test_a_shard_without_samples_is_a_valid_tar(tmp_path: Path) -> None:
    tar = tmp_path / "train-000000.tar"
    write(tar, [])
    with tarfile.open(tar) as archive:
        assert archive.getnames() == []


@pytest.mark.parametrize("key", ["a.b", "a/b"])
def test_keys_that_webdataset_would_split_are_refused(
    tmp_path: Path, key: str, make_sample: Maker
) -> None:
    with pytest.raises(ValueError, match="splits names"):
        write(tmp_path / "train-000000.tar", [replace(make_sample(0), key=key)])


def test_pickled_arrays_are_refused(tmp_path: Path, make_sample: Maker) -> None:
    class Trap:
        def __reduce__(self):
            return (Path(tmp_path / "sprung").touch, ())

    sample = make_sample(0)
    members = encode_sample(sample, "grey-png", lambda _: encode_image(sample.image0, "grey-png"))
    members["matches.npy"] = _object_array(Trap())
    with pytest.raises(ValueError, match="array of pickled objects, which could execute code"):
        decode_sample("key", members)
    assert not (tmp_path / "sprung").exists()


def _object_array(value: object) -> bytes:
    """What a hostile shard would hold: pickled here, so that reading it can be seen refused."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([value], dtype=object))
    assert pickle.PROTO in buffer.getvalue()
    return buffer.getvalue()


def test_a_damaged_member_is_a_clear_error(tmp_path: Path, make_sample: Maker) -> None:
    tar = tmp_path / "train-000000.tar"
    write(tar, [make_sample(0)])
    sidecar = sidecar_of(tar)
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(UserError, match=r"train-000000\.tar: sample seq-0000 cannot be read"):
        read_sample(open_store(tmp_path), tar.name, sidecar.index[0])


def test_the_sidecar_is_plain_json(tmp_path: Path, make_sample: Maker) -> None:
    tar = tmp_path / "train-000000.tar"
    write(tar, [make_sample(0)])
    sidecar = json.loads(tar.with_suffix(".json").read_text())
    assert sidecar["samples"] == 1
    assert sidecar["matches"] == 5
    assert sidecar["bytes"] == tar.stat().st_size


def test_samples_are_numbered_over_the_shards(tmp_path: Path, make_sample: Maker) -> None:
    store = open_store(tmp_path)
    shards = [
        write_shard(store, f"train-{i:06d}.tar", map(make_sample, numbers), "grey-png", "c", "f")
        for i, numbers in enumerate([[0, 1], [], [2], []])
    ]
    write_manifest(store, shards, {})
    dataset = pickle.loads(pickle.dumps(ShardDataset(tmp_path)))
    assert dataset.keys == ["seq-0000", "seq-0001", "seq-0002"]
    for number in (0, 1, 2, -1):
        found = dataset[number]
        assert found.key == dataset.keys[number]
        np.testing.assert_array_equal(found.matches_N4, make_sample(number % 3).matches_N4)
        assert dataset.matches_of(number) == 5
        assert dataset.sequence_of(number) == "seq"
    with pytest.raises(IndexError):
        dataset[3]


def test_a_sidecar_that_the_manifest_does_not_know_is_refused(
    tmp_path: Path, make_sample: Maker
) -> None:
    store = open_store(tmp_path)
    write_manifest(store, [write_shard(store, "a.tar", [make_sample(0)], "grey-png", "c", "f")], {})
    (tmp_path / "a.json").write_bytes(
        store.read("a.json").replace(b'"matches": 5', b'"matches": 6')
    )
    (tmp_path / "index.parquet").unlink()
    with pytest.raises(
        UserError, match=r"a\.json: disagrees with manifest\.json; run `ucn verify`"
    ):
        ShardDataset(tmp_path)
