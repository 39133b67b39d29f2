"""The sintel source: layout, passes, splits, cameras, damage, and the real sample."""

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from ucn.errors import SkippedPair, UserError
from ucn.images import read as image_files
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.sources.base import CompiledSource
from ucn.preprocessing.sources.flow import pairs as flow_pairs
from ucn.preprocessing.sources.flow.sintel import VAL_SEQUENCES, SintelConfig

WIDTH, HEIGHT = 64, 48
K = np.array([[1120, 0, 31.5], [0, 1120, 23.5], [0, 0, 1]])
# The training set's 23 sequences.
SEQUENCES = [
    f"{place}_{number}"
    for place, numbers in {
        "alley": "12",
        "ambush": "24567",
        "bamboo": "12",
        "bandage": "12",
        "cave": "24",
        "market": "256",
        "mountain": "1",
        "shaman": "23",
        "sleeping": "12",
        "temple": "23",
    }.items()
    for number in numbers
]


def write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def camera(frame: int) -> tuple[np.ndarray, np.ndarray]:
    """K and the 4x4 world to camera of a frame."""
    angle = np.deg2rad(5 * frame)
    T = np.eye(4)
    T[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    T[:3, 3] = [0.5 * frame, -0.1, 2]
    return K + frame * np.diag([1, 1, 0]), T


def write_sequence(
    training: Path,
    sequence: str,
    frames: int,
    passes: tuple[str, ...] = ("clean", "final"),
    *,
    masks: bool = True,
    cameras: bool = False,
) -> None:
    """Frames that move by (1, 2); occluded in column 0, invalid in row 0."""
    for frame in range(1, frames + 1):
        name = f"{sequence}/frame_{frame:04d}"
        for number, one in enumerate(passes):
            image = np.random.default_rng([frame, number]).integers(0, 256, (HEIGHT, WIDTH, 3))
            write_png(training / one / f"{name}.png", image.astype(np.uint8))
        if masks:
            occluded = np.zeros((HEIGHT, WIDTH), np.uint8)
            occluded[:, 0] = 255
            write_png(training / "occlusions" / f"{name}.png", occluded)
            invalid = np.zeros((HEIGHT, WIDTH), np.uint8)
            invalid[0] = 255
            write_png(training / "invalid" / f"{name}.png", invalid)
        if cameras:
            path = training / "camdata_left" / f"{name}.cam"
            path.parent.mkdir(parents=True, exist_ok=True)
            intrinsics, T = camera(frame)
            path.write_bytes(b"PIEH" + intrinsics.tobytes() + np.ascontiguousarray(T[:3]).tobytes())
        if frame < frames:
            path = training / "flow" / f"{name}.flo"
            path.parent.mkdir(parents=True, exist_ok=True)
            flow = np.tile(np.array([1, 2], "<f4"), (HEIGHT, WIDTH, 1))
            path.write_bytes(b"PIEH" + struct.pack("<ii", WIDTH, HEIGHT) + flow.tobytes())


def config(root: Path, **options: object) -> SintelConfig:
    return SintelConfig(root=str(root), out="unused", **options)


@pytest.mark.parametrize("root", ["", "training"])
def test_pairs_name_their_rendering(tmp_path: Path, root: str) -> None:
    write_sequence(tmp_path / "training", "alley_1", 3, ("clean", "final"))
    source = config(tmp_path / root, passes=("final", "clean")).open_source()
    assert [source.key(pair) for pair in source.pairs()] == [
        "clean-alley_1-0001-0002",
        "final-alley_1-0001-0002",
        "clean-alley_1-0002-0003",
        "final-alley_1-0002-0003",
    ]


@pytest.mark.parametrize(("passes", "lines"), [(("clean", "final"), 0), (("clean",), 1)])
def test_a_default_pass_that_is_missing_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, passes: tuple[str, ...], lines: int
) -> None:
    write_sequence(tmp_path, "alley_1", 2, passes)
    assert len(config(tmp_path).open_source().pairs()) == len(passes)
    assert caplog.text.count("has no pass final; takes clean") == lines


def test_masked_pixels_are_no_matches(tmp_path: Path) -> None:
    write_sequence(tmp_path / "training", "alley_1", 2)
    source = config(tmp_path, max_matches=0).open_source()
    sample = source.load(source.pairs()[0])
    expected = {(x, y, x + 1, y + 2) for x in range(1, WIDTH - 1) for y in range(1, HEIGHT - 2)}
    assert set(map(tuple, sample.matches_N4.astype(int).tolist())) == expected
    assert sample.metadata["rejected"] == {
        "unknown flow": 0,
        "invalid flow": WIDTH,
        "outside image 1": 2 * WIDTH + HEIGHT - 3,
        "occluded": HEIGHT - 3,
        "duplicate": 0,
        "beyond max_matches": 0,
    }
    assert sample.metadata["K0"] is sample.metadata["T_1_0"] is None
    assert sample.metadata["sequence"] == "clean-alley_1"


def test_cameras_project_the_world_as_each_frame_has_it(tmp_path: Path) -> None:
    write_sequence(tmp_path, "alley_1", 3, ("clean",), cameras=True)
    source = config(tmp_path, passes=("clean",)).open_source()
    metadata = source.load(source.pairs()[1]).metadata
    (K0, T0), (K1, T1) = camera(2), camera(3)
    np.testing.assert_array_equal(metadata["K0"], K0)
    np.testing.assert_array_equal(metadata["K1"], K1)
    world = np.array([0.3, -0.2, 5, 1])
    np.testing.assert_allclose(np.array(metadata["T_1_0"]) @ T0 @ world, T1 @ world, atol=1e-12)
    assert (metadata["unit"], metadata["kind"]) == ("model", "flow")


def test_each_file_is_read_once_while_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sequence(tmp_path, "alley_1", 4)
    read: list[str] = []

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(path: Path, root: Path, **options: object) -> object:
            read.append(path.relative_to(root).as_posix())
            return function(path, root, **options)

        return call

    monkeypatch.setattr(flow_pairs, "read_photo", counted(image_files.read_photo))
    monkeypatch.setattr(flow_pairs, "read_flow", counted(flow_pairs.read_flow))
    source = config(tmp_path).open_source()
    assert isinstance(source, CompiledSource)
    pairs = source.pairs()
    reader = source.reader(pairs)
    for pair in pairs:
        reader.load(pair)
    assert len(read) == len(set(read)) == 2 * 4 + 3 * 3


def test_splits_hold_out_whole_places(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    for sequence in SEQUENCES:
        folder = tmp_path / "flow" / sequence
        folder.mkdir(parents=True)
        (folder / "frame_0001.flo").touch()
    found = {
        split: {
            pair.sequence.removeprefix("clean-")
            for pair in config(tmp_path, passes=("clean",), split=split).open_source().pairs()
        }
        for split in ("train", "val", "all")
    }
    assert found["val"] == set(VAL_SEQUENCES)
    assert found["train"] == set(SEQUENCES) - set(VAL_SEQUENCES)
    assert found["all"] == set(SEQUENCES)
    places = [{name.split("_")[0] for name in found[split]} for split in ("train", "val")]
    assert not places[0] & places[1]


def test_wrong_folders_and_options_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="flow: no such folder"):
        config(tmp_path).open_source()
    write_sequence(tmp_path, "alley_1", 2, ("clean",))
    with pytest.raises(UserError, match=r"albedo: no such folder; .* choose other --passes"):
        config(tmp_path, passes=("clean", "albedo")).open_source()
    assert {pair.sequence for pair in config(tmp_path).open_source().pairs()} == {"clean-alley_1"}
    with pytest.raises(UserError, match=r"no SEQUENCE/frame_NNNN\.flo of the split val"):
        config(tmp_path, passes=("clean",), split="val").open_source().pairs()
    with pytest.raises(UserError, match="split: test has no ground truth"):
        config(tmp_path, split="test")
    with pytest.raises(UserError, match="passes: name at least one"):
        config(tmp_path, passes=())


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def _overwrite(*words: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[:68] + np.array(words).tobytes())


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("clean/alley_1/frame_0002.png", Path.unlink, "missing image"),
        ("clean/alley_1/frame_0001.png", _cut, "damaged image"),
        ("flow/alley_1/frame_0001.flo", _cut, "damaged flow"),
        ("occlusions/alley_1/frame_0001.png", Path.unlink, "missing image"),
        ("invalid/alley_1/frame_0001.png", _cut, "damaged image"),
        (
            "occlusions/alley_1/frame_0001.png",
            lambda path: write_png(path, np.zeros((HEIGHT, 9), np.uint8)),
            "flow size differs",
        ),
        ("camdata_left/alley_1/frame_0002.cam", Path.unlink, "missing camera"),
        ("camdata_left/alley_1/frame_0001.cam", _cut, "damaged camera"),
        ("camdata_left/alley_1/frame_0001.cam", _overwrite(*[np.nan] * 13), "damaged camera"),
    ],
)
def test_damage_skips_the_pair(
    tmp_path: Path, file: str, damage: Callable[[Path], object], reason: str
) -> None:
    write_sequence(tmp_path, "alley_1", 2, ("clean",), cameras=True)
    source = config(tmp_path, passes=("clean",)).open_source()
    (pair,) = source.pairs()
    damage(tmp_path / file)
    with pytest.raises(SkippedPair) as caught:
        source.load(pair)
    assert caught.value.reason == reason
    assert file in caught.value.detail


def test_a_dataset_with_a_damaged_frame_becomes_shards(tmp_path: Path) -> None:
    root, out = tmp_path / "sintel", tmp_path / "shards"
    write_sequence(root / "training", "alley_1", 5)
    _cut(root / "training/flow/alley_1/frame_0002.flo")
    (root / "training/clean/alley_1/frame_0005.png").unlink()
    manifest = preprocess(SintelConfig(root=str(root), out=str(out), workers=0, max_matches=500))
    assert manifest.totals.skipped == {"damaged flow": 2, "missing image": 1}
    assert (manifest.totals.samples, manifest.totals.matches) == (5, 2500)
    assert verify_dataset(out) == []


def test_the_real_sample_is_photometrically_right(shared_data: Path) -> None:
    source = config(shared_data / "MPI-Sintel", passes=("clean",), max_matches=0).open_source()
    (pair,) = source.pairs()
    sample = source.load(pair)
    grey0, grey1 = (
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
        for image in (sample.image0, sample.image1)
    )
    x0, y0, x1, y1 = sample.matches_N4.T
    here = map_coordinates(grey0, [y0, x0], order=1)
    there = map_coordinates(grey1, [y1, x1], order=1, mode="nearest")
    still = map_coordinates(grey1, [y0, x0], order=1)
    # 1.9 and 9.2 grey levels.
    assert np.abs(there - here).mean() < 0.25 * np.abs(still - here).mean()
    assert len(sample.matches_N4) > 0.95 * grey0.size
