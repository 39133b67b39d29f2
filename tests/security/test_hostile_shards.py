"""Shards from a stranger: nothing is written outside, nothing executed, nothing grows huge."""

import hashlib
import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ucn.errors import UserError
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.cache_folder import LocalCache
from ucn.preprocessing.shards.format import MANIFEST
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.shards.write import write_manifest, write_shard
from ucn.storage import array_files
from ucn.storage.array_files import read_npy, read_npz
from ucn.storage.stores import open_store

TAR, SIDECAR = "train-000000.tar", "train-000000.json"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 32), np.uint8)
    matches = rng.uniform(0, 23, (5, 4)).astype(np.float32)
    metadata = {"sequence": "s", "frame0": "0", "frame1": "1", "matches": 5}
    attributes = {"depth0": np.ones(5, np.float32)}
    sample = Sample("s-0", image, image, matches, metadata, attributes)
    store = open_store(tmp_path / "shards")
    write_manifest(store, [write_shard(store, TAR, [sample], "grey-png", "c", "f")], {})
    # Without an index, the sidecars are read; test_index.py has the hostile indexes.
    store.delete("index.parquet")
    store.delete("skipped.parquet")
    return tmp_path / "shards"


def edit(path: Path, change: Change) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def vouch(dataset: Path) -> None:
    """Make manifest and sidecar agree with what lies there now, as a stranger would."""
    tar, sidecar = (dataset / TAR).read_bytes(), (dataset / SIDECAR).read_bytes()
    facts = {
        "bytes": len(tar),
        "sha256": hashlib.sha256(tar).hexdigest(),
        "sidecar_sha256": hashlib.sha256(sidecar).hexdigest(),
        "sidecar_bytes": len(sidecar),
    }
    edit(dataset / MANIFEST, lambda record: record["shards"][0].update(facts))


def replace_member(dataset: Path, suffix: str, data: bytes) -> None:
    """Put other data in place of a member, and an index and checksums that vouch for them."""
    with tarfile.open(dataset / TAR) as archive:
        members = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
    members[f"s-0.{suffix}"] = data
    with tarfile.open(dataset / TAR, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with tarfile.open(dataset / TAR) as archive:
        spans = {one.name.removeprefix("s-0."): [one.offset_data, one.size] for one in archive}
    edit(dataset / SIDECAR, lambda record: record["index"][0].update(members=spans))
    vouch(dataset)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "../stolen.tar",
        "/etc/stolen.tar",
        "a/stolen.tar",
        "..\\stolen.tar",
        "pipe:touch sprung.tar",
        "s3://other/stolen.tar",
        "train-000000.tar\n",
        "\x1b[2J.tar",
        "",
    ],
)
def test_names_of_shards_that_lead_elsewhere(dataset: Path, name: str) -> None:
    edit(dataset / MANIFEST, lambda record: record["shards"][0].update(name=name))
    said = refusal(lambda: ShardDataset(dataset))
    assert f"{MANIFEST}: not a manifest of shards" in said
    assert "\x1b" not in said
    assert [line.startswith(MANIFEST) for line in verify_dataset(dataset)] == [True]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "../../../stolen"),
        ("sidecar_sha256", "/etc/passwd"),
        ("bytes", -1),
        ("bytes", 10**30),
        ("matches", -5),
    ],
)
def test_numbers_and_digests_that_cannot_be(dataset: Path, field: str, value: object) -> None:
    edit(dataset / MANIFEST, lambda record: record["shards"][0].update({field: value}))
    said = refusal(lambda: ShardDataset(dataset, LocalCache(10**9, dataset / "cache")))
    assert "not a manifest of shards" in said


@pytest.mark.parametrize("key", ["../s", "/s", "s.0", "a\\b", "\x1b[2J", "a\nb", ""])
def test_keys_that_lead_elsewhere(dataset: Path, key: str) -> None:
    edit(dataset / SIDECAR, lambda record: record["index"][0].update(key=key))
    vouch(dataset)
    assert "not a sidecar" in refusal(lambda: ShardDataset(dataset))


@pytest.mark.parametrize("span", [[-1, 10], [0, -1], [0, 10**30], [0, 2**40], [2**61, 2**61]])
def test_members_that_are_not_in_their_tar(dataset: Path, span: list[int]) -> None:
    edit(dataset / SIDECAR, lambda record: record["index"][0]["members"].update({"json": span}))
    vouch(dataset)
    said = refusal(lambda: ShardDataset(dataset))
    assert "not a sidecar" in said or f"members beyond the end of {TAR}" in said
    assert verify_dataset(dataset)


def test_a_sample_without_members(dataset: Path) -> None:
    edit(dataset / SIDECAR, lambda record: record["index"][0].update(members={}))
    vouch(dataset)
    assert "sample s-0 cannot be read" in refusal(lambda: ShardDataset(dataset)[0])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../../stolen", tarfile.REGTYPE),
        ("/tmp/ucn-stolen", tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
        ("hard", tarfile.LNKTYPE),
        ("device", tarfile.CHRTYPE),
        ("pipe", tarfile.FIFOTYPE),
        ("\x1b[2J", tarfile.REGTYPE),
    ],
)
def test_strange_members_of_a_tar_are_named_and_never_unpacked(
    dataset: Path, name: str, kind: bytes
) -> None:
    with tarfile.open(dataset / TAR, "a") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    vouch(dataset)
    before = sorted(dataset.parent.rglob("*"))
    faults = verify_dataset(dataset)
    assert any("is not in the sidecar" in fault for fault in faults)
    assert any("not a file, but a link" in fault for fault in faults) == (kind != tarfile.REGTYPE)
    assert not any("\x1b" in fault for fault in faults)
    assert len(ShardDataset(dataset)[0].matches_N4) == 5, "read by the index alone"
    assert sorted(dataset.parent.rglob("*")) == before
    assert not Path("/tmp/ucn-stolen").exists()


def test_a_giant_member_of_a_tar(dataset: Path) -> None:
    info = tarfile.TarInfo("giant")
    info.size = 2**62
    tar = (dataset / TAR).read_bytes()
    (dataset / TAR).write_bytes(tar[: -20 * 512] + info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    vouch(dataset)
    assert any(fault.startswith(TAR) for fault in verify_dataset(dataset))


def png(width: int, height: int, rows: bytes) -> bytes:
    """A grey PNG of 8 bits with this image data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_an_image_that_unpacks_to_gigabytes(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packer = zlib.compressobj(1)
    row = bytes(1 + 15_000)
    bomb = png(
        15_000, 15_000, b"".join(packer.compress(row) for _ in range(15_000)) + packer.flush()
    )
    assert len(bomb) < 2_000_000, "a hundredth of what it unpacks to"
    monkeypatch.setattr(cv2, "imdecode", None)
    for image in (bomb, png(60_000, 60_000, b"")):
        replace_member(dataset, "image0.png", image)
        said = refusal(lambda: ShardDataset(dataset)[0])
        assert "more than 178 megapixels" in said
    assert any("more than 178 megapixels" in fault for fault in verify_dataset(dataset))


def npy(header: dict[str, object], data: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]
    return file.getvalue() + data


@pytest.mark.parametrize(
    ("shape", "size"),
    [((10**12, 4), 16), ((10**30,), 16), ((3, 4), 16), ((0, 2**62), 16), ((-1, 4), 16), ((4,), 99)],
)
def test_arrays_whose_shape_is_not_that_of_their_data(
    dataset: Path, shape: tuple[int, ...], size: int
) -> None:
    data = npy({"descr": "<f4", "fortran_order": False, "shape": shape}, bytes(size))
    replace_member(dataset, "matches.npy", data)
    said = refusal(lambda: ShardDataset(dataset)[0])
    assert "sample s-0 cannot be read" in said
    with pytest.raises(ValueError, match=r"bytes for an array|not valid"):
        read_npy(data)


def test_arrays_are_read_as_numpy_reads_them() -> None:
    rng = np.random.default_rng(0)
    for array in (
        rng.random((3, 4), np.float32),
        np.asfortranarray(rng.random((3, 4))),
        np.array(7),
        np.zeros((0, 4), ">i2"),
        np.array(["a", "bc"]),
    ):
        file = io.BytesIO()
        np.save(file, array)
        found = read_npy(file.getvalue())
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
        assert found.flags.writeable


def test_packed_arrays_that_unpack_to_too_much(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_files, "MAX_ARRAY_BYTES", 2**20)
    file = io.BytesIO()
    np.savez_compressed(file, depth0=np.zeros(2**22, np.uint8))
    assert len(file.getvalue()) < 10_000
    replace_member(dataset, "attributes.npz", file.getvalue())
    said = refusal(lambda: ShardDataset(dataset)[0])
    assert "more than 1048576" in said


def test_a_packed_array_that_lies_about_its_size() -> None:
    file = io.BytesIO()
    np.savez_compressed(file, a=np.zeros(2**20, np.uint8))
    data = bytearray(file.getvalue())
    declared = struct.pack("<I", 2**20 + 128)
    for _ in range(data.count(declared)):
        at = data.find(declared)
        data[at : at + 4] = struct.pack("<I", 200)
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        read_npz(bytes(data))


@pytest.mark.parametrize("member", ["matches.npy", "attributes.npz"])
def test_pickles_in_arrays_are_not_opened(
    dataset: Path, victim: Path, trap: object, member: str
) -> None:
    traps = np.array([trap], dtype=object)
    file = io.BytesIO()
    if member == "matches.npy":
        np.save(file, traps)
    else:
        np.savez(file, depth0=traps)
    assert pickle.PROTO in file.getvalue()
    replace_member(dataset, member, file.getvalue())
    assert "could execute code" in refusal(lambda: ShardDataset(dataset)[0])
    assert any("could execute code" in fault for fault in verify_dataset(dataset))
    assert not victim.exists()


@pytest.mark.parametrize("metadata", [b"[" * 100_000, b"[]", b"\xff", b"1" * 10_000])
def test_metadata_that_are_none(dataset: Path, metadata: bytes) -> None:
    replace_member(dataset, "json", metadata)
    assert "sample s-0 cannot be read" in refusal(lambda: ShardDataset(dataset)[0])
