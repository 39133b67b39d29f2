"""The flow-folder source: which files belong together, splits, lists, and the real samples."""

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.flow.folder import FlowFolderConfig
from ucn.preprocessing.sources.flow.layouts import PairFiles, find_flow_pairs

WIDTH, HEIGHT = 40, 30


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_flo(path: Path, u: float, v: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flow = np.tile(np.array([u, v], "<f4"), (HEIGHT, WIDTH, 1))
    path.write_bytes(b"PIEH" + struct.pack("<ii", WIDTH, HEIGHT) + flow.tobytes())


def write_photo(path: Path, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((HEIGHT, width, 3), 128, np.uint8))


def config(root: Path, **options: object) -> FlowFolderConfig:
    return FlowFolderConfig(root=str(root), out="unused", **options)


def load(root: Path, **options: object) -> Sample:
    source = config(root, **options).open_source()
    (pair,) = source.pairs()
    return source.load(pair)


NAMINGS = {
    "data/00001_flow.flo": ("data/00001_img1.ppm", "data/00001_img2.ppm", "data/00001_flow_b.flo"),
    "00002_flow.flo": ("00002_img1.png", "00002_img2.png", ""),
    "0000003-flow_01.flo": ("0000003-img_0.png", "0000003-img_1.png", "0000003-flow_10.flo"),
    "0000004-gt.flo": ("0000004-img0.ppm", "0000004-img1.ppm", ""),
    "mine/walk.7.flo": ("mine/walk.7_0.jpg", "mine/walk.7_1.jpg", "mine/walk.7_backward.flo"),
}


def test_files_belong_together_by_name(tmp_path: Path) -> None:
    for flow, others in NAMINGS.items():
        touch(tmp_path, flow, *(other for other in others if other))
    found = find_flow_pairs(tmp_path, "any")
    assert sorted(found.values()) == sorted(
        PairFiles(photo0, photo1, flow, backward)
        for flow, (photo0, photo1, backward) in NAMINGS.items()
    )
    assert set(found) == {
        PairRef("data-00001", "img1", "img2"),
        PairRef("00002", "img1", "img2"),
        PairRef("0000003", "img_0", "img_1"),
        PairRef("0000004", "img0", "img1"),
        PairRef("mine-walk-7", "0", "1"),
    }


def test_files_that_other_systems_name_or_leave(tmp_path: Path) -> None:
    touch(tmp_path, "a-gt.FLO", "a-img0.PPM", "a-img1.Ppm", "a-gt_backward.FLO")
    touch(tmp_path, "._a-gt.FLO", "__MACOSX/._a-gt.FLO", "__MACOSX/a-gt.flo", ".git/b.flo")
    (files,) = find_flow_pairs(tmp_path, "any").values()
    assert files == PairFiles("a-img0.PPM", "a-img1.Ppm", "a-gt.FLO", "a-gt_backward.FLO")


def test_a_list_saved_by_an_editor(tmp_path: Path) -> None:
    text = "my a.png\tmy b.png\tf.flo\r\n\r\nc.png d.png g.flo # no tabs\r\n"
    (tmp_path / "pairs.txt").write_bytes(text.encode("utf-8-sig"))
    assert [*find_flow_pairs(tmp_path, "any").values()] == [
        PairFiles("my a.png", "my b.png", "f.flo"),
        PairFiles("c.png", "d.png", "g.flo"),
    ]


def test_nan_costs_its_own_pixel_only(tmp_path: Path) -> None:
    for name in ("a_0.png", "a_1.png"):
        write_photo(tmp_path / name)
    write_flo(tmp_path / "a.flo", 1, 0)
    data = np.fromfile(tmp_path / "a.flo", "<f4")
    data[3 + 2 * (7 * WIDTH + 5) + 1] = np.nan
    data.tofile(tmp_path / "a.flo")
    sample = load(tmp_path)
    assert len(sample.matches_N4) == (WIDTH - 1) * HEIGHT - 1
    assert [5, 7] not in sample.matches_N4[:, :2].tolist()
    assert sample.metadata["rejected"]["unknown flow"] == 1


def test_middlebury(tmp_path: Path) -> None:
    touch(tmp_path, "other-gt-flow/Venus/flow10.flo", "other-data/Venus/frame10.png")
    touch(tmp_path, "other-data/Venus/frame11.png", "other-gt-flow/Urban2/flow09.flo")
    found = find_flow_pairs(tmp_path, "any")
    assert list(found.items()) == [
        (
            PairRef("Urban2", "frame09", "frame10"),
            PairFiles(
                "other-data/Urban2/frame09.png",
                "other-data/Urban2/frame10.png",
                "other-gt-flow/Urban2/flow09.flo",
            ),
        ),
        (
            PairRef("Venus", "frame10", "frame11"),
            PairFiles(
                "other-data/Venus/frame10.png",
                "other-data/Venus/frame11.png",
                "other-gt-flow/Venus/flow10.flo",
            ),
        ),
    ]


def test_a_list_goes_before_names(tmp_path: Path) -> None:
    touch(tmp_path, "00002_flow.flo")
    (tmp_path / "pairs.txt").write_text(
        "# image0 image1 flow back\n\n a.png b.png ab.flo\nx/1.png y/1.png f.flo b.png # both\n"
    )
    assert find_flow_pairs(tmp_path, "any") == {
        PairRef("pairs", "a", "b"): PairFiles("a.png", "b.png", "ab.flo"),
        PairRef("x", "1", "y-1"): PairFiles("x/1.png", "y/1.png", "f.flo", "b.png"),
    }


def test_keys_are_short_distinct_and_without_dots_and_slashes(tmp_path: Path) -> None:
    folder = "a.very/long.folder/" * 6
    lines = [f"{folder}{n:04d}.left.cam.of.the.rig.png r.png {n}.flo\n" for n in range(50)]
    (tmp_path / "pairs.txt").write_text("".join(lines))
    source = config(tmp_path).open_source()
    keys = {source.key(pair) for pair in source.pairs()}
    assert len(keys) == 50
    assert all(len(key) <= 82 and not set(key) & set("./") for key in keys)


def test_flying_chairs_official_split(tmp_path: Path) -> None:
    for number in range(1, 6):
        touch(tmp_path, f"data/{number:05d}_flow.flo")
    (tmp_path / "FlyingChairs_train_val.txt").write_text("1\n2\n1\n1\n2\n")

    def numbers(root: Path, split: str) -> list[int]:
        pairs = config(root, split=split).open_source().pairs()
        return [int(pair.sequence[-5:]) for pair in pairs]

    for root in (tmp_path, tmp_path / "data"):
        assert numbers(root, "train") == [1, 3, 4]
        assert numbers(root, "val") == [2, 5]
        assert numbers(root, "all") == [1, 2, 3, 4, 5]
        with pytest.raises(UserError, match="has no split test; choose train, val or all"):
            numbers(root, "test")
    (tmp_path / "FlyingChairs_train_val.txt").write_text("1\n3\n")
    with pytest.raises(UserError, match="not a list of 1 and 2"):
        numbers(tmp_path, "train")


def test_sequences_are_chosen_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.flo", "b.flo", "c.flo")
    pairs = config(tmp_path, sequences=("c", "a")).open_source().pairs()
    assert [pair.sequence for pair in pairs] == ["a", "c"]
    with pytest.raises(UserError, match="no sequence d; there are a, b, c"):
        config(tmp_path, sequences=("d",)).open_source().pairs()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "no flow files that name their images"),
        (("a/b.flo", "a-b.flo"), "would both be the flow of a-b-0-1"),
    ],
)
def test_ambiguous_or_no_names_are_one_line(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=said):
        find_flow_pairs(tmp_path, "any")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.png b.png\n", "line 1 is not IMAGE0 IMAGE1 FLOW"),
        ("a b f\nc d f g h\n", "line 2 is not"),
        ("/a.png b.png f.flo\n", "line 1 is not"),
        ("a.png b.png f.flo\na.png b.png g.flo\n", "g.flo and f.flo would both be the flow"),
        ("a.png b.png f.flo\na.jpg c.png g.flo\n", "a.jpg and a.png would both be frame a"),
        ("# nothing\n", "no flow files"),
        ("a b f\n\xff\n", "line 2 is not"),
    ],
)
def test_a_wrong_list_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "pairs.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=said):
        config(tmp_path).open_source().pairs()


def test_no_such_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        config(tmp_path / "none").open_source()


def test_what_does_not_come_back_is_no_match(tmp_path: Path) -> None:
    for name in ("a_0.png", "a_1.png"):
        write_photo(tmp_path / name)
    write_flo(tmp_path / "a.flo", 3, 0.5)
    write_flo(tmp_path / "a_backward.flo", -3.5, -1)
    sample = load(tmp_path)
    assert len(sample.matches_N4) == (WIDTH - 3) * HEIGHT
    write_flo(tmp_path / "a_backward.flo", -4, -0.8)
    with pytest.raises(SkippedPair, match="too few matches: 0 of"):
        load(tmp_path)


def test_images_of_two_sizes(tmp_path: Path) -> None:
    write_photo(tmp_path / "a_0.png")
    write_photo(tmp_path / "a_1.png", width=WIDTH - 10)
    write_flo(tmp_path / "a.flo", 0.0, 0.0)
    assert load(tmp_path).matches_N4[:, 2].max() == WIDTH - 11
    write_flo(tmp_path / "a_backward.flo", 0.0, 0.0)
    with pytest.raises(SkippedPair, match=r"flow size differs: a_backward.flo: 40x30, not 30x30"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda root: (root / "a_1.png").unlink(), "missing image"),
        (lambda root: (root / "a_0.png").write_bytes(b""), "damaged image"),
        (lambda root: (root / "a.flo").write_bytes(b"PIEH"), "damaged flow"),
        (lambda root: (root / "a_backward.flo").write_bytes(b"HIEP" * 99), "damaged flow"),
        (lambda root: write_photo(root / "a_0.png", 9), "flow size differs"),
        (lambda root: write_flo(root / "a.flo", np.nan, 0), "too few matches"),
        (lambda root: write_flo(root / "a.flo", 2e9, 0), "too few matches"),
        (lambda root: write_flo(root / "a.flo", 1e6, 0), "too few matches"),
    ],
)
def test_damage_skips_the_pair(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    for name in ("a_0.png", "a_1.png"):
        write_photo(tmp_path / name)
    write_flo(tmp_path / "a.flo", 1, 0)
    write_flo(tmp_path / "a_backward.flo", -1, 0)
    source = config(tmp_path).open_source()
    (pair,) = source.pairs()
    before = source.input_fingerprint(pair)
    source.load(pair)
    damage(tmp_path)
    with pytest.raises(SkippedPair) as caught:
        config(tmp_path).open_source().load(pair)
    assert caught.value.reason == reason
    assert [name for name, _ in before] == ["a_0.png", "a_1.png", "a.flo", "a_backward.flo"]


@pytest.mark.parametrize(
    ("folder", "recall", "better"),
    [("middlebury_flow", 0.96, 0.3), ("flying_chairs", 0.78, 0.35)],
)
def test_real_samples_are_photometrically_right(
    shared_data: Path, folder: str, recall: float, better: float
) -> None:
    """Mean error against staying in place: 1.2 / 5.4 grey levels, and 3.2 / 11.8."""
    sample = load(shared_data / folder, max_matches=0)
    grey0, grey1 = (
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
        for image in (sample.image0, sample.image1)
    )
    x0, y0, x1, y1 = sample.matches_N4.T
    here = map_coordinates(grey0, [y0, x0], order=1)
    there = map_coordinates(grey1, [y1, x1], order=1, mode="nearest")
    still = map_coordinates(grey1, [y0, x0], order=1)
    assert np.abs(there - here).mean() < better * np.abs(still - here).mean()
    known = grey0.size - sample.metadata["rejected"]["unknown flow"]
    assert len(sample.matches_N4) > recall * known
