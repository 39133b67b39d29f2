"""The dataset card: what it says, and when the preprocessing job writes it."""

import hashlib
import re
from pathlib import Path
from typing import Literal

import cv2
import pytest
import webdataset
import yaml

from tests.textures import textured
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.shards.card import ORIGINS, format_card
from ucn.preprocessing.shards.format import Manifest, Totals
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.sources.base import Source
from ucn.preprocessing.sources.keypoints.pascal import PascalConfig
from ucn.preprocessing.sources.photos.homography import HomographyConfig
from ucn.preprocessing.sources.registry import SOURCES


@pytest.fixture
def photos(tmp_path: Path) -> HomographyConfig:
    """Options for one photo and one damaged one."""
    root = tmp_path / "photos"
    root.mkdir()
    cv2.imwrite(str(root / "a.png"), textured(240, 320, seed=1))
    (root / "b.png").write_bytes((root / "a.png").read_bytes()[:500])
    return HomographyConfig(
        root=str(root), out=str(tmp_path / "out"), size=(160, 120), pairs_per_photo=2, workers=0
    )


class OwnConfig(HomographyConfig):
    """A source of a user."""

    source: Literal["own"] = "own"  # type: ignore[assignment]

    def open_source(self) -> Source:
        raise NotImplementedError


def manifest_of(config: HomographyConfig | PascalConfig) -> Manifest:
    totals = Totals(shards=3, samples=1234, matches=5678901, bytes=7, skipped={"missing scan": 9})
    return Manifest(configuration=config.content(), totals=totals, shards=[], skipped=[])


def yaml_blocks(card: str) -> list[dict[str, object]]:
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)]


def test_the_card_counts_and_names_the_manifest(photos: HomographyConfig) -> None:
    manifest = preprocess(photos)
    out = Path(photos.out)
    card = (out / "card.md").read_text()
    digest = hashlib.sha256((out / "manifest.json").read_bytes()).hexdigest()
    rows = dict(re.findall(r"^\| (.*?) \| (.*) \|$", card, re.MULTILINE))
    assert rows["SHA-256 of `manifest.json`"] == digest
    assert (rows["pairs"], rows["split"], rows["licence"]) == ("2", "train", "that of your data")
    assert rows["matches"] == f"{manifest.totals.matches:,}"
    assert "\n- damaged image: 2\n" in card
    changed, every = yaml_blocks(card)
    assert changed == {"size": [160, 120], "pairs_per_photo": 2}
    assert every == manifest.configuration
    assert photos.root not in card
    assert photos.out not in card


def test_the_card_reads_the_tars_as_it_says(
    photos: HomographyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess(photos)
    monkeypatch.chdir(photos.out)
    (code,) = re.findall(r"```python\n(.*?)```", Path("card.md").read_text(), re.DOTALL)
    names: dict[str, object] = {"webdataset": webdataset}
    exec(code, names)
    assert len(names["x0"]) == len(names["y1"]) > 0  # type: ignore[arg-type]


def test_a_missing_card_is_written_again_and_a_stale_one_replaced(
    photos: HomographyConfig,
) -> None:
    preprocess(photos)
    out = Path(photos.out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    stamps = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "card.md").unlink()
    assert verify_dataset(out) == []
    preprocess(photos)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    kept = {path.name for path in out.iterdir() if path.stat().st_mtime_ns == stamps[path.name]}
    assert kept == before.keys() - {"card.md"}
    preprocess(photos.model_copy(update={"seed": 5, "overwrite": True}))
    assert "seed: 5" in (out / "card.md").read_text()
    assert verify_dataset(out) == []


def test_a_card_names_no_folder_of_the_machine_and_no_secret() -> None:
    config = PascalConfig(
        root="/data/voc",
        out="s3://bucket/shards",
        annotations="/home/someone/annotations",
        objects="s3://bucket/lists/objects.txt?token=secret",
    )
    card = format_card(config, manifest_of(config))
    for word in ("/data", "/home", "someone", "bucket", "secret"):
        assert word not in card
    assert yaml_blocks(card)[0]["objects"] == ".../objects.txt"


def test_a_source_of_a_user_states_no_licence() -> None:
    config = OwnConfig(root="/data", out="/out")
    card = format_card(config, manifest_of(config))
    assert "| licence | not stated by the source |" in card
    assert "| pairs | 1,234 |" in card
    assert "- missing scan: 9" in card


def test_every_source_has_an_origin() -> None:
    assert ORIGINS.keys() == SOURCES.builtin.keys()
    for origin in ORIGINS.values():
        assert origin.licence
        assert origin.citation or not origin.homepage or "scikit-image" in origin.homepage
