"""Lists of pairs: their format, the images that names stand for, and their use by sources."""

from pathlib import Path

import pytest

from tests.preprocessing.sources import (
    colmap_worlds,
    test_bundler,
    test_yfcc_models,
    yfcc_scenes,
)
from ucn.errors import UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.plan import plan_shards
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.pairs_file import find_listed_pairs, read_pairs_file


@pytest.mark.parametrize(
    ("data", "pairs"),
    [
        (b"a.png b.png\n", {1: ("a.png", "b.png")}),
        (b"\xef\xbb\xbfa b\r\n\r\n# c\r\nd e", {1: ("a", "b"), 4: ("d", "e")}),
        (b"a b 0 0 1 2 3 4 5 6 7 8 9\n", {1: ("a", "b")}),
        (b"a 1.png\tb 2.png\t0\n", {1: ("a 1.png", "b 2.png")}),
        ("a b\n".encode("utf-16"), {1: ("a", "b")}),
    ],
)
def test_formats(tmp_path: Path, data: bytes, pairs: dict[int, tuple[str, str]]) -> None:
    path = tmp_path / "pairs.txt"
    path.write_bytes(data)
    assert read_pairs_file(path) == pairs


@pytest.mark.parametrize("data", [b"", b"# a b\n", b"a b\nc\n", b"a\t\tb\n", b"a\0b c\n"])
def test_damaged_lists_are_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "pairs.txt"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"pairs\.txt: "):
        read_pairs_file(path)
    with pytest.raises(UserError, match=r"none\.txt: cannot be read .*--pairs-file"):
        read_pairs_file(tmp_path / "none.txt")


SCENES = {"a": {"0.png": "0", "1.png": "1"}, "b": {"0.png": "0", "2.png": "2"}}


def listed(folder: Path, text: str) -> list[PairRef]:
    path = folder / "pairs.txt"
    path.write_text(text)
    # Two models of the same images, as COLMAP writes them.
    places = [("x/a", "a"), ("x", "a"), ("x", "b")]
    return find_listed_pairs(path, places, SCENES.__getitem__)


def test_names_choose_the_scene_that_has_both_images(tmp_path: Path) -> None:
    text = "x/2.png x/0.png\nx/0.png x/1.png\nx/a/1.png x/a/0.png\n"
    assert listed(tmp_path, text) == [
        PairRef("b", "2", "0"),
        PairRef("a", "0", "1"),
        PairRef("a", "1", "0"),
    ]


def test_folders_before_a_scene_are_ignored(tmp_path: Path) -> None:
    text = "/data/x/2.png phoenix/x/0.png\n"
    assert listed(tmp_path, text) == [PairRef("b", "2", "0")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x/0.png x/1.png\nx/0.png x/3.png\n", r"line 2: no image x/3\.png; there are x/"),
        ("y/0.png x/1.png\n", r"line 1: no image y/0\.png; there are x"),
        ("0.png 1.png\n", r"line 1: no image 0\.png; there are x"),
        ("x/1.png x/2.png\n", "line 1: x/1.png and x/2.png are of two scenes"),
        ("x/0.png x/a/0.png\n", "line 1: x/0.png is paired with itself"),
        ("x/0.png x/1.png\n\nx/a/0.png x/1.png\n", "line 3: the pair of line 1 again"),
    ],
)
def test_unknown_names_and_repeated_pairs_are_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        listed(tmp_path, text)


def test_colmap_takes_the_listed_pairs_without_a_choice(tmp_path: Path) -> None:
    world = colmap_worlds.make_world(1, "PINHOLE")
    for scene in "ab":
        colmap_worlds.write_scene(tmp_path / "in" / scene, world)
    names = [image.name for image in world.images]
    path = tmp_path / "pairs.txt"
    path.write_text(
        f"b/{names[2]}\tb/{names[0]}\nb/images/{names[0]}\tb/images/{names[1]}\n"
        f"a/{names[0]}\ta/{names[2]}\n"
    )
    options = {"pairs_file": str(path), "max_angle": 0, "min_angle": 0, "max_pairs": 1}
    config = colmap_worlds.config(tmp_path / "in", **options)
    source = config.open_source()
    pairs = source.pairs()
    assert pairs == [
        PairRef("b", names[2], names[0]),
        PairRef("b", names[0], names[1]),
        PairRef("a", names[0], names[2]),
    ]
    for pair in pairs:
        colmap_worlds.check_sample(source.load(pair), world, pair, True)
    # Pairs with too few matches are counted.
    counts = [len(source.load(pair).matches_N4) for pair in pairs]
    update = {"out": str(tmp_path / "out"), "workers": 0, "min_matches": max(counts)}
    totals = preprocess(config.model_copy(update=update)).totals
    assert totals.samples == counts.count(max(counts)) < 3
    assert totals.skipped == {"too few matches": 3 - totals.samples}


def test_the_content_of_a_list_identifies_shards_and_not_its_path(tmp_path: Path) -> None:
    world = colmap_worlds.make_world(1, "PINHOLE")
    root = colmap_worlds.write_scene(tmp_path / "in", world)
    paths = [tmp_path / name for name in ("one.txt", "two.txt", "three.txt")]
    for path, more in zip(paths, ("", "", "# another\n"), strict=True):
        path.write_text(f"{world.images[0].name}\t{world.images[1].name}\n{more}")
    configs = [colmap_worlds.config(root, pairs_file=str(path)) for path in paths]
    plans = [plan_shards(config.open_source(), config) for config in configs]
    assert plans[0] == plans[1]
    assert plans[0][0].fingerprint != plans[2][0].fingerprint
    assert configs[1].differences(configs[0].content()) == []
    assert configs[2].differences(configs[0].content()) == ["pairs_file"]
    assert colmap_worlds.config(root).differences(configs[0].content()) == ["pairs_file"]


def test_bundler_takes_names_of_its_list(tmp_path: Path) -> None:
    root = test_bundler.write_scene(tmp_path / "in", test_bundler.make_world(1, lost=(2,)))
    path = tmp_path / "pairs.txt"
    path.write_text("p3.png p0.png\n./p0.png p2.png\n")
    config = test_bundler.config(root, pairs_file=str(path))
    sequence = root.name
    assert config.open_source().pairs() == [
        PairRef(sequence, "p3.png", "p0.png"),
        PairRef(sequence, "p0.png", "p2.png"),
    ]


@pytest.mark.parametrize("prefix", ["louvre/train/images/", "louvre/", "images/", ""])
def test_yfcc_takes_names_below_the_root_or_the_scene(tmp_path: Path, prefix: str) -> None:
    root = tmp_path / "in"
    yfcc_scenes.write_scene(root, views=test_yfcc_models.VIEWS)
    path = tmp_path / "pairs.txt"
    path.write_text(f"{prefix}02_photo.jpg {prefix}00_photo.jpg 0 0 1 0 0 0 1 0 0 0 1\n")
    source = yfcc_scenes.config(root, pairs_file=str(path), min_visibility=10**6).open_source()
    assert source.pairs() == [PairRef("louvre-train", "000002", "000000")]
