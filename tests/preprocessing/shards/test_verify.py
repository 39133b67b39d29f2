"""Damage to a dataset of shards, each found and named."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ucn.errors import UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.check_sample import sample_faults
from ucn.preprocessing.shards.format import digest
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.shards.write import write_manifest, write_shard
from ucn.preprocessing.sources.kitti.raw import KittiRawConfig
from ucn.preprocessing.sources.stereo.motorcycle import MotorcycleConfig
from ucn.storage.stores import Store, open_store, write_bytes

Maker = Callable[..., Sample]


@pytest.fixture
def dataset(tmp_path: Path, make_sample: Maker) -> Path:
    """Three shards of two samples."""
    folder = tmp_path / "shards"
    samples = [make_sample(index) for index in range(6)]
    write_dataset(open_store(folder), [samples[:2], samples[2:4], samples[4:]])
    return folder


def write_dataset(store: Store, shards: list[list[Sample]]) -> None:
    content = {"source": "test", "split": "train"}
    finished = [
        write_shard(store, f"train-{i:06d}.tar", samples, "grey-png", digest(content), f"f{i}")
        for i, samples in enumerate(shards)
    ]
    write_manifest(store, finished, content)


def test_a_sound_dataset_has_no_faults(dataset: Path) -> None:
    assert verify_dataset(dataset) == []


TAR, SIDECAR = "train-000001.tar", "train-000001.json"


def test_litter_is_no_fault_but_another_file_is(dataset: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._train-000000.tar"):
        (dataset / name).write_bytes(b"x")
    assert verify_dataset(dataset) == []
    (dataset / "notes.db").write_bytes(b"x")
    assert verify_dataset(dataset) == ["notes.db: not in the manifest"]


def flip_a_bit_of_the_tar(store: Store) -> None:
    data = bytearray(store.read(TAR))
    data[2000] ^= 4
    write_bytes(store, TAR, bytes(data))


def cut_the_tar(store: Store) -> None:
    write_bytes(store, TAR, store.read(TAR)[:-12000])


def cut_the_tar_at_a_member(store: Store) -> None:
    with store.local_copy(TAR) as path, tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    write_bytes(store, TAR, store.read(TAR)[: last.offset])


def remove_the_tar(store: Store) -> None:
    store.delete(TAR)


def swap(store: Store, name: str, other: str) -> None:
    data, others = store.read(name), store.read(other)
    write_bytes(store, name, others)
    write_bytes(store, other, data)


def swap_sidecars(store: Store) -> None:
    swap(store, SIDECAR, "train-000000.json")


def swap_tars(store: Store) -> None:
    swap(store, TAR, "train-000000.tar")


def swap_shards_whole(store: Store) -> None:
    swap_sidecars(store)
    swap_tars(store)


def remove_the_sidecar(store: Store) -> None:
    store.delete(SIDECAR)


def garble_the_sidecar(store: Store) -> None:
    write_bytes(store, SIDECAR, b"{")


def replace_in(store: Store, name: str, old: bytes, new: bytes) -> None:
    data = store.read(name)
    assert data.count(old) >= 1
    write_bytes(store, name, data.replace(old, new, 1))


def change_a_count_in_the_sidecar(store: Store) -> None:
    replace_in(store, SIDECAR, b'"samples": 2', b'"samples": 3')


def change_an_offset_in_the_sidecar(store: Store) -> None:
    replace_in(store, SIDECAR, b"    512,", b"    513,")


def change_the_sidecars_checksum(store: Store) -> None:
    sha256 = json.loads(store.read(SIDECAR))["sha256"]
    replace_in(store, SIDECAR, sha256.encode(), (sha256[1:] + "0").encode())


def change_the_table(store: Store) -> None:
    sha256 = json.loads(store.read(SIDECAR))["sha256"]
    replace_in(store, "manifest.json", sha256.encode(), (sha256[1:] + "0").encode())


def change_totals(store: Store) -> None:
    replace_in(store, "manifest.json", b'"matches": 30', b'"matches": 31')


def change_the_configuration(store: Store) -> None:
    replace_in(store, "manifest.json", b'"source": "test"', b'"source": "tess"')


def change_white_space(store: Store) -> None:
    replace_in(store, "manifest.json", b'"matches": 30', b'"matches":  30')


def garble_the_manifest(store: Store) -> None:
    replace_in(store, "manifest.json", b'"totals"', b'"tptals"')


def add_a_stranger(store: Store) -> None:
    write_bytes(store, "train-000009.tar", store.read("train-000000.tar"))


def leave_a_temporary(store: Store) -> None:
    write_bytes(store, ".tmp-1-train-000001.tar", b"half")


DAMAGE = {
    flip_a_bit_of_the_tar: [f"{TAR}: sha256 differs"],
    cut_the_tar: [f"{TAR}: 8480 bytes, 20480 expected (cut or overwritten)"],
    cut_the_tar_at_a_member: [f"{TAR}: ", "(cut or overwritten)", f"{TAR}: member seq-0003."],
    remove_the_tar: [f"{TAR}: missing"],
    swap_sidecars: [f"{SIDECAR}: is not the sidecar of {TAR}, but of train-000000.tar"],
    swap_tars: [f"{TAR}: holds what belongs into train-000000.tar"],
    swap_shards_whole: [f"{SIDECAR}: is not the sidecar", f"{TAR}: holds what belongs into"],
    remove_the_sidecar: [f"{SIDECAR}: missing"],
    garble_the_sidecar: [f"{SIDECAR}: not a sidecar"],
    change_a_count_in_the_sidecar: [f"{SIDECAR}: differs from manifest.json in samples"],
    change_an_offset_in_the_sidecar: [f"{SIDECAR}: differs from manifest.json"],
    change_the_sidecars_checksum: [f"{SIDECAR}: differs from manifest.json in sha256"],
    change_the_table: [f"manifest.json: sha256 of {TAR} differ from its sidecar"],
    change_totals: ["manifest.json: totals are not those"],
    change_the_configuration: ["manifest.json: configuration is not that"],
    change_white_space: ["manifest.json: not as `ucn preprocess` writes it"],
    garble_the_manifest: ["manifest.json: not a manifest of shards"],
    add_a_stranger: ["train-000009.tar: not in the manifest"],
    leave_a_temporary: [".tmp-1-train-000001.tar: left by an interrupted run"],
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_found_and_named(dataset: Path, damage: Callable[[Store], None]) -> None:
    damage(open_store(dataset))
    faults = "\n".join(verify_dataset(dataset))
    assert all(part in faults for part in DAMAGE[damage]), faults
    assert "\n\n" not in faults


def test_only_the_damaged_is_named(dataset: Path) -> None:
    store = open_store(dataset)
    change_the_table(store)
    assert len(verify_dataset(dataset)) == 1
    flip_a_bit_of_the_tar(store)
    assert not any(
        "train-000000" in fault or "train-000002" in fault for fault in verify_dataset(dataset)
    )


def test_wrong_totals_are_named_also_where_a_sidecar_is_missing(dataset: Path) -> None:
    remove_the_sidecar(open_store(dataset))
    assert not any("totals" in fault for fault in verify_dataset(dataset))
    change_totals(open_store(dataset))
    assert any("manifest.json: totals are not" in fault for fault in verify_dataset(dataset))


@settings(max_examples=60)
@given(data=st.data())
def test_every_flipped_bit_is_found(
    tmp_path_factory: pytest.TempPathFactory, make_sample: Maker, data: st.DataObject
) -> None:
    store = open_store(tmp_path_factory.mktemp("flipped"))
    write_dataset(store, [[make_sample(0)], [make_sample(1)]])
    name = data.draw(st.sampled_from(sorted(store.sizes())))
    content = bytearray(store.read(name))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    write_bytes(store, name, bytes(content))
    assert any(name in fault for fault in verify_dataset(store.uri))


def test_keys_are_unique_over_the_shards(tmp_path: Path, make_sample: Maker) -> None:
    store = open_store(tmp_path)
    write_dataset(store, [[make_sample(0), make_sample(1)], [make_sample(2), make_sample(0)]])
    assert verify_dataset(tmp_path) == [
        "train-000001.tar: key seq-0000 is in train-000000.tar already"
    ]


def test_samples_out_of_range_are_named(tmp_path: Path, make_sample: Maker) -> None:
    sample = make_sample(0)
    sample.matches_N4[2] = (5, 5, 40, 5)
    write_dataset(open_store(tmp_path), [[sample]])
    assert verify_dataset(tmp_path) == [
        "train-000000.tar: seq-0000: 1 matches lie outside their image"
    ]


def test_a_named_file_is_deleted_and_made_again(world_root: Path, tmp_path: Path) -> None:
    config = KittiRawConfig(root=str(world_root), out=str(tmp_path), gaps=(1,), min_matches=50)
    config = config.model_copy(update={"pairs_per_shard": 4, "workers": 0})
    preprocess(config)
    store = open_store(tmp_path)
    before = {name: store.read(name) for name in store.sizes()}
    flip_a_bit_of_the_tar(store)
    named = {fault.partition(":")[0] for fault in verify_dataset(tmp_path)}
    assert named == {TAR}
    for name in named:
        store.delete(name)
    preprocess(config)
    assert {name: store.read(name) for name in store.sizes()} == before


def test_no_manifest_is_refused(dataset: Path) -> None:
    (dataset / "manifest.json").unlink()
    with pytest.raises(UserError, match="preprocessing has not finished"):
        verify_dataset(dataset)
    with pytest.raises(UserError, match="no such folder of shards"):
        verify_dataset(dataset / "elsewhere")


def test_samples_are_held_to_the_format(dataset: Path) -> None:
    sample = ShardDataset(dataset)[0]
    assert list(sample_faults(sample)) == []
    sample.matches_N4[0] = (-0.6, 0, 0, 0)
    sample.matches_N4[1] = (0, 0, 0, np.nan)
    sample.matches_N4[3] = sample.matches_N4[2]
    faults = " ".join(sample_faults(sample))
    assert "not finite" in faults
    assert "1 matches lie outside their image" in faults
    assert "duplicated" in faults


def test_the_real_motorcycle_pair_is_sound(tmp_path: Path) -> None:
    out = tmp_path / "motorcycle"
    manifest = preprocess(MotorcycleConfig(out=str(out), split="test", workers=0))
    assert manifest.totals.samples == 1
    assert verify_dataset(out) == []
    sample = ShardDataset(out)[0]
    disparity_N = sample.matches_N4[:, 0] - sample.matches_N4[:, 2]
    K0, T_1_0 = np.array(sample.metadata["K0"]), np.array(sample.metadata["T_1_0"])
    K1 = np.array(sample.metadata["K1"])
    depth_N = sample.attributes["depth0"].astype(float)
    rays_N3 = np.c_[sample.matches_N4[:, :2], np.ones(len(depth_N))] @ np.linalg.inv(K0).T
    moved_N3 = rays_N3 * depth_N[:, None] + T_1_0[:3, 3]
    pixels_N2 = (moved_N3 @ K1.T)[:, :2] / moved_N3[:, 2:]
    np.testing.assert_allclose(pixels_N2, sample.matches_N4[:, 2:], atol=2e-3)
    assert 7 < disparity_N.min() < disparity_N.max() < 60
