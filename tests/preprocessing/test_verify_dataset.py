"""Damage to a dataset of shards, each found and named."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preprocessing.errors import UserError
from preprocessing.job import preprocess
from preprocessing.sample import Sample
from preprocessing.shards.read import ShardDataset
from preprocessing.shards.verify import sample_faults, verify_dataset
from preprocessing.shards.write import write_manifest, write_shard
from preprocessing.sources.motorcycle import MotorcycleConfig
from preprocessing.stores.open import open_store


@pytest.fixture
def dataset(tmp_path: Path, make_sample: Callable[[int], Sample]) -> Path:
    """Three shards of two samples."""
    folder = tmp_path / "shards"
    names = [f"train-{shard:06d}.tar" for shard in range(3)]
    store = open_store(folder)
    finished = []
    for shard, name in enumerate(names):
        samples = [make_sample(2 * shard + i) for i in range(2)]
        finished.append(write_shard(store, name, samples, "grey-png", "configuration", "f"))
    write_manifest(store, finished, {"source": "test"})
    return folder


def test_a_sound_dataset_has_no_faults(dataset: Path) -> None:
    seen: list[str] = []
    assert verify_dataset(dataset, on_shard=seen.append) == []
    assert seen == [f"train-00000{i}.tar" for i in range(3)]


def _flip_a_bit(folder: Path) -> None:
    tar = folder / "train-000001.tar"
    data = bytearray(tar.read_bytes())
    data[2000] ^= 4
    tar.write_bytes(data)


def _cut(folder: Path) -> None:
    tar = folder / "train-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-3000])


def _cut_at_a_member(folder: Path) -> None:
    tar = folder / "train-000001.tar"
    with tarfile.open(tar) as archive:
        last = archive.getmembers()[-1]
    tar.write_bytes(tar.read_bytes()[: last.offset])


def _remove_tar(folder: Path) -> None:
    (folder / "train-000001.tar").unlink()


def _swap_sidecars(folder: Path) -> None:
    a, b = folder / "train-000000.json", folder / "train-000001.json"
    text = a.read_text()
    a.write_text(b.read_text())
    b.write_text(text)


def _swap_shards_whole(folder: Path) -> None:
    for suffix in (".tar", ".json"):
        a, b = folder / f"train-000000{suffix}", folder / f"train-000001{suffix}"
        data = a.read_bytes()
        a.write_bytes(b.read_bytes())
        b.write_bytes(data)


def _remove_sidecar(folder: Path) -> None:
    (folder / "train-000001.json").unlink()


def _garble_sidecar(folder: Path) -> None:
    (folder / "train-000001.json").write_text("{")


def _change_totals(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["totals"]["matches"] += 1
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _add_a_stranger(folder: Path) -> None:
    shutil.copy(folder / "train-000000.tar", folder / "train-000009.tar")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_flip_a_bit, "train-000001.tar: sha256 differs"),
        (_cut, "train-000001.tar: "),
        (_cut_at_a_member, "train-000001.tar: "),
        (_remove_tar, "train-000001.tar: missing"),
        (_swap_sidecars, "train-000001.json: is not the sidecar"),
        (_swap_shards_whole, "train-000001.tar: "),
        (_remove_sidecar, "train-000001.json: missing"),
        (_garble_sidecar, "train-000001.json: not a sidecar"),
        (_change_totals, "matches add up to"),
        (_add_a_stranger, "train-000009.tar: not in the manifest"),
    ],
)
def test_damage_is_found_and_named(
    dataset: Path, damage: Callable[[Path], None], named: str
) -> None:
    damage(dataset)
    faults = verify_dataset(dataset)
    assert any(named in fault for fault in faults), faults


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
