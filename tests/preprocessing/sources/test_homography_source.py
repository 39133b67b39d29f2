"""The homography source: exact matches on photos of every kind, splits, and what it skips."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.sources.photos.folder import clean_name, find_copies, find_photos, split_of
from ucn.preprocessing.sources.photos.homography import HomographyConfig

DARK: dict[str, Any] = {"lit": "none"}


def write_photo(path: Path, width: int = 200, height: int = 160, seed: int = 0) -> None:
    """Smooth waves in three colours, some two across, nowhere black."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    x, y = x * 13 / width, y * 11 / height
    waves = np.sin(x + seed) + np.sin(y + 1) + np.sin((x + 2 * y) / 3)
    bands = [np.rint(135 + gain * waves) for gain in (39, 35, 30)]
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.dstack(bands).astype(np.uint8))


def make_config(photos: Path, out: Path | str = "unused", **values: Any) -> HomographyConfig:
    defaults = {"size": (96, 80), "pairs_per_photo": 3, "workers": 0, "min_matches": 20}
    return HomographyConfig(**(defaults | {"root": str(photos), "out": str(out)} | values))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    write_photo(root / "summer" / "a.b.png")
    write_photo(root / "summer" / "a-b.png", seed=1)
    write_photo(root / "portrait.PNG", 160, 230, seed=2)
    write_photo(root / "large.png", 900, 700, seed=3)
    return root


def loaded(config: HomographyConfig) -> list[Sample]:
    source = config.open_source()
    return [source.load(pair) for pair in source.pairs()]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    warped=st.sampled_from(["one", "both"]),
    strength=st.floats(0, 1),
    occluders=st.integers(0, 3),
)
def test_matches_are_exact_inside_visible_and_complete(
    photos: Path, seed: int, warped: str, strength: float, occluders: int
) -> None:
    config = make_config(
        photos,
        seed=seed,
        warped=warped,
        rotation=90 * strength,
        scale=1 + strength,
        perspective=0.4 * strength,
        shear=0.3 * strength,
        occluders=occluders,
        max_matches=0,
        min_matches=1,
        pairs_per_photo=1,
        **DARK,
    )
    source = config.open_source()
    for pair in source.pairs():
        try:
            sample = source.load(pair)
        except SkippedPair:
            # The test of the overlap's bound says when; most draws must be good.
            assert strength > 0.5
            continue
        check_geometry(sample)
        check_recall(sample, occluders)
        check_pixels(sample)


def check_geometry(sample: Sample) -> None:
    matches = sample.matches_N4.astype(np.float64)
    H_1_0 = np.array(sample.metadata["H_1_0"])
    mapped = cv2.perspectiveTransform(matches[None, :, :2], H_1_0)[0]
    # The corners' images define the homography a second time, in OpenCV's solver.
    size0 = np.array(sample.metadata["size0"])
    corners = (np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * size0 - 0.5).astype(np.float32)
    targets = cv2.perspectiveTransform(corners[None].astype(np.float64), H_1_0)[0]
    again = cv2.getPerspectiveTransform(corners, targets.astype(np.float32))
    mapped_again = cv2.perspectiveTransform(matches[None, :, :2], again)[0]
    assert np.abs(mapped - matches[:, 2:]).max() < 0.01
    assert np.abs(mapped_again - matches[:, 2:]).max() < 0.01
    for image, ends in ((sample.image0, matches[:, :2]), (sample.image1, matches[:, 2:])):
        height, width = image.shape[:2]
        assert (ends >= -0.5).all()
        assert (ends <= [width - 0.5, height - 0.5]).all()
    assert len(np.unique(sample.matches_N4, axis=0)) == len(matches)


def check_recall(sample: Sample, occluders: int) -> None:
    """Each cell of view 0 has its match, or its point is beyond a view, the photo, or hidden."""
    rejected = sample.metadata["rejected"]
    cells = np.prod(np.ceil(np.array(sample.metadata["size0"]) / 4))
    assert len(sample.matches_N4) + sum(rejected.values()) == cells
    assert rejected["duplicate"] == rejected["beyond max_matches"] == 0
    if not occluders:
        assert rejected["occluded"] == 0
        # Beyond the photo are as many as view 0 has black, the photo having none.
        black = (sample.image0 == 0).mean()
        assert abs(rejected["beyond the photo"] / cells - black) < 0.03


def check_pixels(sample: Sample) -> None:
    """Both ends show the same, with no shift by half a pixel between the views."""
    matches = sample.matches_N4
    ends0, ends1 = matches[:, :2], matches[:, 2:]
    deep = np.ones(len(matches), bool)
    for image, ends in ((sample.image0, ends0), (sample.image1, ends1)):
        shown = cv2.erode((image > 0).astype(np.uint8), np.ones((7, 7)), borderValue=0)
        deep &= bilinear(shown, ends) == 1
    # What lies beyond the photo is black, and nothing of the photo is.
    assert deep.sum() > 0.5 * len(matches)
    values0, values1 = bilinear(sample.image0, ends0[deep]), bilinear(sample.image1, ends1[deep])
    # What an occluder hides differs by some 60; a view that is made much smaller loses contrast.
    differences = values0 - values1
    assert np.abs(differences).max() < 25
    # By how much view 1 would have to be shifted, brightened and stretched to fit view 0 best.
    slopes = [bilinear(slope, ends1[deep]) for slope in np.gradient(sample.image1.astype(float))]
    design = np.column_stack([*slopes, np.ones(len(values1)), values1 - values1.mean()])
    shift = np.linalg.lstsq(design, differences, rcond=None)[0]
    left = differences - design @ shift
    assert np.abs(left).max() < 10
    # Where slopes of the picture are too faint, in some direction, they cannot tell.
    steepness = np.linalg.svd(design[:, :2] - design[:, :2].mean(axis=0), compute_uv=False).min()
    if steepness > 0.8 * np.sqrt(len(values1)):
        assert np.abs(shift[:2]).max() < 0.15 + 5 * left.std() / steepness


def bilinear(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    x, y = points.T.astype(np.float32)
    border = cv2.BORDER_REPLICATE
    return cv2.remap(image.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=border).ravel()


def test_bytes_depend_on_seed_and_photo_only(photos: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    preprocess(make_config(photos, first, pairs_per_shard=2))
    preprocess(make_config(photos, second, pairs_per_shard=5))
    assert verify_dataset(first) == []
    samples = [list(map(ShardDataset(out).__getitem__, range(12))) for out in (first, second)]
    for one, other in zip(*samples, strict=True):
        assert one.key == other.key
        np.testing.assert_array_equal(one.image1, other.image1)
        np.testing.assert_array_equal(one.matches_N4, other.matches_N4)
        np.testing.assert_array_equal(one.attributes["scale"], other.attributes["scale"])
    assert len({one.key for one in samples[0]}) == 12
    other_seed = loaded(make_config(photos, seed=1))
    assert not np.array_equal(other_seed[0].matches_N4, samples[0][0].matches_N4)


def test_keys_are_readable_and_unique(photos: Path) -> None:
    source = make_config(photos).open_source()
    pairs = source.pairs()
    keys = [source.key(pair) for pair in pairs]
    assert len(set(keys)) == len(pairs) == 12
    assert not any(set(key) & set("./ ") for key in keys)
    assert any(key.startswith("summer-a-b-png-") for key in keys)
    assert clean_name("a b.png") != clean_name("a-b.png")


def test_views_take_the_photos_format(photos: Path) -> None:
    by_name = {sample.metadata["sequence"]: sample for sample in loaded(make_config(photos))}
    assert by_name["portrait.PNG"].image0.shape == (96, 80)
    assert by_name["large.png"].image0.shape == (80, 96)
    colour = loaded(make_config(photos, images="rgb-png"))[0]
    assert colour.image0.shape == (80, 96, 3)


@pytest.mark.parametrize("lit", ["none", "one", "both"])
def test_light_changes_in_the_views_that_are_told(photos: Path, lit: str) -> None:
    plain = loaded(make_config(photos, lit="none"))[0]
    changed = loaded(make_config(photos, lit=lit))[0]
    np.testing.assert_array_equal(plain.matches_N4, changed.matches_N4)
    assert np.array_equal(plain.image0, changed.image0) == (lit != "both")
    assert np.array_equal(plain.image1, changed.image1) == (lit == "none")


def test_shares_split_by_photo(tmp_path: Path) -> None:
    for number in range(40):
        write_photo(tmp_path / f"{number}.png", 96, 80, seed=number)
    parts = {
        split: {pair.sequence for pair in make_config(tmp_path, **options).open_source().pairs()}
        for split in ("train", "val", "test")
        for options in [{"split": split, "shares": (50, 25, 25), "size": (64, 64)}]
    }
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 40
    assert all(parts.values())
    place = int.from_bytes(hashlib.sha256(b"7.png").digest()[:8], "big") / 2**64
    expected = "train" if place < 0.5 else "val" if place < 0.75 else "test"
    assert split_of("folder/7.png", (2, 1, 1)) == expected
    shares = Counter(split_of(f"{number}.jpg", (90, 5, 5)) for number in range(4000))
    assert 0.87 < shares["train"] / 4000 < 0.93
    assert 0.03 < shares["val"] / 4000 < 0.07
    everything = make_config(tmp_path, split="mine", size=(64, 64), pairs_per_photo=1)
    assert len(everything.open_source().pairs()) == 40


def test_every_damaged_photo_is_counted(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write_photo(root / "good.png")
    (root / "copy.png").write_bytes((root / "good.png").read_bytes())
    write_photo(root / "small.png", 90, 70)
    data = (root / "good.png").read_bytes()
    (root / "cut.png").write_bytes(data[: len(data) // 2])
    (root / "empty.jpg").write_bytes(b"")
    (root / "text.jpg").write_text("no photo")
    cv2.imwrite(str(root / "deep.tiff"), np.zeros((100, 120), np.float32))
    (root / "notes.txt").write_text("not looked at")
    (root / "gone.jpg").symlink_to(tmp_path / "gone.jpg")
    (root / ".hidden.png").write_bytes(data)
    out = tmp_path / "out"
    manifest = preprocess(make_config(root, out, pairs_per_photo=2))
    assert manifest.totals.samples == 2
    assert manifest.totals.skipped == {
        "damaged image": 8,
        "duplicate photo": 1,
        "missing image": 2,
        "small photo": 2,
    }
    details = {one.detail for one in manifest.skipped}
    assert "good.png: same bytes as copy.png" in details
    assert "small.png: 90x70, smaller than --size 96 80" in details
    assert verify_dataset(out) == []


def test_photos_in_a_linked_folder_with_names_that_are_not_utf8(tmp_path: Path) -> None:
    write_photo(tmp_path / "disk" / "a.png")
    name = b"\xfcber \xe9t\xe9.png".decode("utf-8", "surrogateescape")
    (tmp_path / "disk" / "a.png").rename(tmp_path / "disk" / name)
    (tmp_path / "disk" / "cut \udcff.png").write_bytes(b"")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "disk")
    config = make_config(tmp_path / "photos", tmp_path / "out", pairs_per_photo=1)
    manifest = preprocess(config)
    assert preprocess(config) == manifest
    assert verify_dataset(tmp_path / "out") == []
    sample = ShardDataset(tmp_path / "out")[0]
    assert sample.metadata["sequence"] == "link/\\udcfcber \\udce9t\\udce9.png"
    assert [one.detail.partition(":")[0] for one in manifest.skipped] == ["link/cut \\udcff.png"]


def test_photo_that_goes_away_is_skipped(tmp_path: Path) -> None:
    write_photo(tmp_path / "gone.png")
    source = make_config(tmp_path).open_source()
    pair = source.pairs()[0]
    (tmp_path / "gone.png").unlink()
    with pytest.raises(SkippedPair, match=r"missing image: gone\.png"):
        source.load(pair)


def test_too_little_overlap_is_given_up(photos: Path) -> None:
    source = make_config(photos, shift=1, scale=8, min_overlap=1).open_source()
    with pytest.raises(SkippedPair, match="too little overlap"):
        source.load(source.pairs()[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"root": "nowhere"}, "nowhere: no such folder"),
        ({"split": "mine", "shares": (9, 1, 0)}, "split mine has no share"),
        ({"shares": (0, 0, 0)}, "shares of nothing"),
        ({"size": (0, 80)}, "size"),
        ({"perspective": 1.5}, "perspective"),
        ({"split": "test", "shares": (1, 0, 0)}, "none of its 4 photos falls to test"),
    ],
)
def test_wrong_options_are_one_line(photos: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_config(photos, **values).open_source().pairs()
    assert "\n" not in str(caught.value)


def test_folder_without_photos_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(UserError, match="holds no photos"):
        make_config(tmp_path).open_source().pairs()


def test_copies_are_found_by_their_bytes(tmp_path: Path) -> None:
    contents = {"a": b"x" * 9000, "b": b"y" + b"x" * 8999, "c": b"x" * 9000, "d": b"z", "e": b""}
    for name, data in contents.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
    photos = find_photos(tmp_path)
    assert photos == {f"{name}.jpg": len(data) for name, data in contents.items()}
    assert find_copies(tmp_path, photos) == {"c.jpg": "a.jpg"}


def test_inputs_are_json(photos: Path) -> None:
    source = make_config(photos).open_source()
    pair = source.pairs()[0]
    assert json.loads(json.dumps(source.input_fingerprint(pair))) == [
        "large.png",
        pytest.approx(1e5, rel=9),
    ]


@pytest.mark.parametrize("place", ["bundler/kermit", "colmap/lund_door/images"])
def test_real_photos(shared_data: Path, place: str) -> None:
    root = shared_data / place
    config = make_config(root, size=(640, 480), images="rgb-png", pairs_per_photo=1)
    source = config.open_source()
    pairs = source.pairs()
    assert len(pairs) >= 11
    for pair in pairs[:3]:
        sample = source.load(pair)
        assert len(sample.matches_N4) > 3000
        check_geometry(sample)
