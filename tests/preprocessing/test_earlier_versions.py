"""Datasets of earlier versions: a new or renamed option refuses nothing that is finished."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ucn.errors import UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.sources.kitti.raw import KittiRawConfig


class LaterConfig(KittiRawConfig):
    """As a later version may have it: an option renamed, and another one added."""

    renamed: ClassVar[Mapping[str, Any]] = {"max_gap": "largest_gap"}
    largest_gap: int = 30
    added: bool = False


OPTIONS = {"gaps": (1,), "min_matches": 50, "pairs_per_shard": 4, "workers": 0}


def canonical_digest(value: object) -> str:
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def rewrite_as_version_0_1_0(out: Path, config: KittiRawConfig) -> None:
    """Replace all fingerprints by those of version 0.1.0, which digested every option."""
    content = config.model_dump(mode="json", exclude={"root", "out", "workers", "overwrite"})
    source = config.open_source()
    pairs = source.pairs()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["configuration"] == content
    for number, shard in enumerate(manifest["shards"]):
        chunk = pairs[number * config.pairs_per_shard :][: config.pairs_per_shard]
        inputs = [[source.key(pair), source.input_fingerprint(pair)] for pair in chunk]
        path = out / shard["name"].replace(".tar", ".json")
        sidecar = json.loads(path.read_text())
        assert sidecar["configuration"] == canonical_digest(content)
        sidecar["fingerprint"] = canonical_digest([content, inputs])
        assert sidecar["fingerprint"] != shard["fingerprint"]
        path.write_text(json.dumps(sidecar, indent=1, sort_keys=True) + "\n")
        shard["fingerprint"] = sidecar["fingerprint"]
        shard["sidecar_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        shard["sidecar_bytes"] = path.stat().st_size
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    assert verify_dataset(out) == []


def state(out: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.iterdir()}


@pytest.fixture
def old(world_root: Path, tmp_path: Path) -> Path:
    """A finished dataset with the fingerprints of version 0.1.0."""
    config = KittiRawConfig(root=str(world_root), out=str(tmp_path / "old"), **OPTIONS)
    preprocess(config)
    rewrite_as_version_0_1_0(tmp_path / "old", config)
    return tmp_path / "old"


@pytest.mark.parametrize("later", [KittiRawConfig, LaterConfig])
def test_a_finished_dataset_of_version_0_1_0_is_left_as_it_is(
    world_root: Path, old: Path, later: type[KittiRawConfig]
) -> None:
    before = state(old)
    preprocess(later(root=str(world_root), out=str(old), **OPTIONS))
    assert state(old) == before


def test_an_unfinished_dataset_of_version_0_1_0_goes_on(world_root: Path, old: Path) -> None:
    before = state(old)
    (old / "manifest.json").unlink()
    (old / "train-000001.tar").unlink()
    preprocess(KittiRawConfig(root=str(world_root), out=str(old), **OPTIONS))
    after = state(old)
    assert after["train-000000.tar"] == before["train-000000.tar"]
    assert after["train-000001.tar"][1] == before["train-000001.tar"][1]
    assert verify_dataset(old) == []


def test_a_changed_input_leaves_the_rest_of_a_dataset_of_version_0_1_0(
    world_root: Path, old: Path, tmp_path: Path
) -> None:
    root = tmp_path / "raw"
    shutil.copytree(world_root, root)
    (lost,) = root.glob("*/*_drive_0002_sync/image_02/data/0000000007.png")
    lost.unlink()
    before = state(old)
    preprocess(LaterConfig(root=str(root), out=str(old), **OPTIONS))
    after = state(old)
    assert after["train-000000.tar"] == before["train-000000.tar"]
    assert after["train-000003.tar"][1] != before["train-000003.tar"][1]
    assert verify_dataset(old) == []


def test_a_dataset_of_today_is_left_as_it_is_by_a_later_version(
    world_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    preprocess(KittiRawConfig(root=str(world_root), out=str(out), **OPTIONS))
    before = state(out)
    preprocess(LaterConfig(root=str(world_root), out=str(out), **OPTIONS))
    assert state(out) == before


@pytest.mark.parametrize(
    ("option", "name"),
    [({"added": True}, "added"), ({"largest_gap": 3}, "largest_gap"), ({"seed": 1}, "seed")],
)
def test_what_differs_is_refused_by_its_name(
    world_root: Path, old: Path, option: dict[str, object], name: str
) -> None:
    before = state(old)
    with pytest.raises(UserError, match=rf"another configuration \({name} differ\)"):
        preprocess(LaterConfig(root=str(world_root), out=str(old), **OPTIONS | option))
    assert state(old) == before
