"""`ucn match` as a user runs it, with a network of random weights."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

import ucn
from ucn.errors import UserError
from ucn.pipeline.main import main
from ucn.pipeline.match import read_pairs, read_rgb_photo
from ucn.training.config import NetworkConfig
from ucn.training.model import save_model
from ucn.training.networks import build_network

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights at random, with which equal pictures still match."""
    torch.manual_seed(0)
    config = NetworkConfig(name="small", options={"dimension": 16, "width": 16})
    folder = tmp_path_factory.mktemp("models") / "model"
    save_model(folder, build_network(config.name, config.options).eval(), config)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """0.png, and 1.png, 2.png that are it moved by (16, 8) and (-8, 16) pixels."""
    rng = np.random.default_rng(1)
    scene = cv2.GaussianBlur(rng.random((200, 240, 3)), (0, 0), 2)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, (dx, dy) in enumerate(((0, 0), (16, 8), (-8, 16))):
        picture = scene[30 - dy : 150 - dy, 40 - dx : 200 - dx]
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


@pytest.fixture
def run(model: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    def run_command(*args: object) -> tuple[int, str, str]:
        code = main(["match", *map(str, args), "--model", str(model)])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run_command


def test_picture_file_and_counts(run: Run, photos: Path, tmp_path: Path) -> None:
    paths = photos / "0.png", photos / "1.png"
    out, save = tmp_path / "m.npz", tmp_path / "m.png"
    options = ("--out", out, "--save", save, "--keypoints", 60, "--ratio", 0.999)
    code, printed, err = run(*paths, *options)
    assert (code, err) == (0, "")
    with np.load(out, allow_pickle=False) as file:
        matches = file["matches"]
        assert (str(file["name0"]), str(file["name1"])) == tuple(map(str, paths))
    lines = printed.splitlines()
    assert lines[0].startswith(f"{paths[0]} {paths[1]}: starting points 60, ratio ")
    assert lines[0].endswith(f"reciprocity {len(matches)}")
    assert lines[1] == f"{len(matches)} matches; wrote {save}, {out}"
    shift = np.median(matches[:, 2:] - matches[:, :2], axis=0)
    assert np.linalg.norm(shift - [16, 8]) <= 2
    assert cv2.imread(str(save)).shape[1] >= 2 * 160


@pytest.mark.parametrize("max_side", [0, 80])
def test_matches_refer_to_the_photos_as_they_are(
    run: Run, photos: Path, tmp_path: Path, max_side: int
) -> None:
    out = tmp_path / "m.npz"
    options = ("--grid", 8, "--max-side", max_side, "--reciprocity-px", 2, "--out", out)
    assert run("0.png", "1.png", "--root", photos, *options)[0] == 0
    with np.load(out) as file:
        matches = file["matches"]
        assert (str(file["name0"]), str(file["name1"])) == ("0.png", "1.png")
    assert matches[:, 0].max() > 100  # beyond the reduced photo
    assert np.linalg.norm(np.median(matches[:, 2:] - matches[:, :2], axis=0) - [16, 8]) <= 4


def test_pairs_share_the_keypoints_of_a_photo(run: Run, photos: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("0.png 1.png\n\n0.png 2.png\n1.png  2.png\n1.png 0.png\n")
    options = ("--pairs", pairs, "--root", photos, "--keypoints", 50)
    code, printed, _ = run(*options, "--out", tmp_path / "m.h5")
    assert code == 0
    assert [line.partition(":")[0] for line in printed.splitlines()[:3]] == [
        "0.png 1.png",
        "0.png 2.png",
        "1.png 2.png",
    ]
    assert f"wrote {tmp_path / 'm.h5'}, {tmp_path / 'm-keypoints.h5'}" in printed
    with h5py.File(tmp_path / "m-keypoints.h5") as file:
        assert sorted(file) == ["0.png", "1.png", "2.png"]
        # Every pair of photo 0 starts from the same corners.
        assert 0 < len(file["0.png/keypoints"]) <= 50

    assert run(*options, "--out", tmp_path / "m.db")[0] == 0
    with closing(sqlite3.connect(tmp_path / "m.db")) as database:
        names = database.execute("SELECT name FROM images ORDER BY image_id").fetchall()
        rows = database.execute("SELECT rows FROM keypoints ORDER BY image_id").fetchall()
        assert database.execute("SELECT count(*) FROM matches").fetchone() == (3,)
    assert names == [("0.png",), ("1.png",), ("2.png",)]
    with h5py.File(tmp_path / "m-keypoints.h5") as file:
        assert rows == [(len(file[name]["keypoints"]),) for (name,) in names]


@pytest.mark.parametrize("root", [".", "../photos", "link"])
def test_a_photo_has_one_name(
    run: Run, photos: Path, tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "link").symlink_to(photos)
    monkeypatch.chdir(photos)
    out = tmp_path / "m.db"
    for name in ("1.png", "./1.png", f"{photos}/1.png"):
        assert run("0.png", name, "--root", root, "--out", out, "--keypoints", 9)[0] == 0
    with closing(sqlite3.connect(out)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM images")]
    assert sorted(names) == ["0.png", "1.png"]


def test_without_corners_there_are_no_matches(run: Run, photos: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(photos / "black.png"), np.zeros((50, 60), np.uint8))
    out = tmp_path / "m.npz"
    code, printed, _ = run("black.png", "0.png", "--root", photos, "--out", out)
    assert code == 0
    assert "black.png: no keypoints; try --keypoints-from grid" in printed
    assert "\n0 matches; wrote" in printed
    with np.load(out) as file:
        assert file["matches"].shape == (0, 4)


@pytest.mark.parametrize("size", [(1, 1), (7, 60)])
def test_tiny_photos_are_refused(run: Run, photos: Path, size: tuple[int, int]) -> None:
    cv2.imwrite(str(photos / "tiny.png"), np.full(size, 9, np.uint8))
    code, printed, err = run("0.png", "tiny.png", "--root", photos)
    assert (code, printed) == (2, "")
    assert f"tiny.png: {size[1]} x {size[0]} pixels, too small to match" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("0.png",), "1 photo; give two"),
        (("0.png", "1.png", "2.png"), "3 photos; give two"),
        (("0.png", "1.png", "--pairs", "p.txt"), "only --pairs FILE"),
        (("0.png", "nope.png"), "nope.png: no such photo"),
        (("0.png", "."), "is a folder"),
        (("0.png", "0.png", "--out", "{root}/m.db"), "0.png: both photos of a pair"),
        (("0.png", "./0.png", "--out", "{root}/m.h5"), "0.png: both photos of a pair"),
        (("0.png", "text.png"), "text.png: not readable"),
        (("0.png", "empty.png"), "empty.png: not readable"),
        (("0.png", "1.png", "--out", "{root}/m.txt"), "m.txt: matches are written as .npz"),
        (("0.png", "1.png", "--out", "{root}/folder.h5"), "folder.h5: is a folder"),
        (("0.png", "1.png", "--out", "{root}/text.db"), "text.db: no COLMAP database"),
        (("0.png", "1.png", "--out", "{root}/text.png/m.h5"), "a file is in the way"),
        (("0.png", "1.png", "--save", "{root}/m.gif"), "m.gif: not a .png or .jpg"),
        (("0.png", "1.png", "--save", "{root}/folder.png"), "folder.png: is a folder"),
        (("0.png", "1.png", "--ratio", "1.5"), "ratio"),
        (("0.png", "1.png", "--keypoints-from", "magic"), "keypoints-from"),
        (("--pairs", "{root}/nope.txt"), "nope.txt: cannot be read"),
        (("--pairs", "{root}/bad.txt"), "bad.txt: line 2 is not two names of photos ('0.png')"),
        (("--pairs", "{root}/same.txt"), "same.txt: line 1 is not two names"),
        (("--pairs", "{root}/blank.txt"), "blank.txt: contains no pairs"),
        (("--pairs", "{root}/missing.txt"), "gone.png: no such photo"),
        (("--pairs", "{root}/good.txt", "--out", "{root}/m.npz"), "m.npz: an .npz holds one pair"),
        (("--pairs", "{root}/good.txt", "--save", "{root}/m.png"), "m.png: cannot show several"),
    ],
)
def test_mistakes_are_refused_in_one_line(
    run: Run, photos: Path, args: tuple[str, ...], named: str
) -> None:
    texts = {
        "text.png": "no picture",
        "empty.png": "",
        "text.db": "no database" * 99,
        "bad.txt": "0.png 1.png\n0.png\n",
        "same.txt": "0.png 0.png\n",
        "blank.txt": "\n \n",
        "missing.txt": "0.png 1.png\n0.png gone.png\n",
        "good.txt": "0.png 1.png\n0.png 2.png\n",
    }
    for name, text in texts.items():
        (photos / name).write_text(text)
    (photos / "folder.h5").mkdir()
    (photos / "folder.png").mkdir()
    before = sorted(photos.iterdir())
    code, printed, err = run(*(arg.format(root=photos) for arg in args), "--root", photos)
    assert (code, printed) == (2, ""), err
    (line,) = [line for line in err.splitlines() if "pair/s" not in line and line.strip()]
    assert named in line
    assert sorted(photos.iterdir()) == before


def test_a_photo_matches_itself(run: Run, photos: Path) -> None:
    out = photos / "m.npz"
    code, _, err = run("0.png", "0.png", "--root", photos, "--out", out)
    assert code == 0, err
    with np.load(out) as file:
        matches_N4 = file["matches"]
    assert len(matches_N4) > 100
    np.testing.assert_allclose(matches_N4[:, :2], matches_N4[:, 2:], rtol=0, atol=0.02)


def test_no_model_is_refused(capfd: pytest.CaptureFixture[str], photos: Path) -> None:
    args = ["match", str(photos / "0.png"), str(photos / "1.png"), "--model", str(photos)]
    assert main(args) == 2
    assert "no model" in capfd.readouterr().err


def test_a_turned_photo_is_read_upright_or_as_stored(tmp_path: Path) -> None:
    picture = np.zeros((20, 40, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    # A minimal EXIF segment: big-endian TIFF, one entry, orientation 6 (turn right by 90 degrees).
    tiff = (
        b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
        + bytes(4)
    )
    exif = b"Exif\x00\x00" + tiff
    path = tmp_path / "turned.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    assert read_rgb_photo(path).shape == (40, 20, 3)
    assert read_rgb_photo(path, upright=False).shape == (20, 40, 3)


def test_turned_and_repeated_pairs_come_once(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("a b\nb a\na c\na b\n")
    assert read_pairs(path) == [("a", "b"), ("a", "c")]


def test_a_list_saved_by_an_editor(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_bytes("a b\r\n\r\nmy a.jpg\tmy b.jpg\r\n".encode("utf-8-sig"))
    assert read_pairs(path) == [("a", "b"), ("my a.jpg", "my b.jpg")]


def test_three_lines_of_python(model: Path, photos: Path) -> None:
    loaded = ucn.load_model(model)
    image0, image1 = (read_rgb_photo(photos / name) for name in ("0.png", "1.png"))
    matches, scores = ucn.match(loaded, image0, image1, keypoints=40, min_similarity=0.5)
    assert (matches.dtype, scores.dtype) == (np.float32, np.float32)
    assert 0 < len(matches) == len(scores) <= 40
    described = [
        ucn.describe(loaded, image, ends)
        for image, ends in ((image0, matches[:, :2]), (image1, matches[:, 2:]))
    ]
    # The ends lie between the positions that were searched, and look no less like the starts.
    products = (described[0] * described[1]).sum(axis=1)
    np.testing.assert_allclose(products, scores, atol=2e-3)
    with pytest.raises(UserError, match="ratio"):
        ucn.match(loaded, image0, image1, ratio=0)
