"""Listings, names of images, and text lists as users' systems leave them."""

from pathlib import Path

import pytest

from ucn.preprocessing.sources.input_files import (
    find_photo,
    list_names,
    read_lines,
    split_names,
    walk_files,
)
from ucn.storage.files import is_litter


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    "name", ["._a.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir"]
)
def test_litter_is_left_out(tmp_path: Path, name: str) -> None:
    assert is_litter(name)
    touch(tmp_path / "b" / "a.jpg", tmp_path / "b" / name, tmp_path / name / "a.jpg")
    assert list_names(tmp_path / "b") == ["a.jpg"]
    assert list(walk_files(tmp_path)) == [("", []), ("b/", ["a.jpg"])]


def test_links_out_of_the_root_are_followed_once(tmp_path: Path) -> None:
    root, disk = tmp_path / "root", tmp_path / "disk"
    touch(root / "own" / "a.jpg", disk / "deep" / "b.jpg")
    (root / "linked").symlink_to(disk)
    (root / "again").symlink_to(disk)
    (root / "own" / "inside").symlink_to(root)
    (disk / "back").symlink_to(tmp_path)
    files = [prefix + name for prefix, names in walk_files(root) for name in names]
    assert files == ["again/deep/b.jpg", "own/a.jpg"]


@pytest.mark.parametrize("name", ["000.png", "000.jpg", "000.JPG", "000.Jpeg", "000.TIF"])
def test_an_image_is_found_whatever_its_suffix(tmp_path: Path, name: str) -> None:
    touch(tmp_path / name)
    assert find_photo(tmp_path / "000.png") == tmp_path / name


def test_the_usual_suffix_comes_first(tmp_path: Path) -> None:
    for name in ("0.ppm", "x" * 300, "..", "no suffix"):
        assert find_photo(tmp_path / name) == tmp_path / name
    touch(tmp_path / "0.jpg", tmp_path / "0.png", tmp_path / "0.ppm")
    assert find_photo(tmp_path / "0.ppm") == tmp_path / "0.ppm"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("last", ["", "\n"])
def test_lines_of_any_editor(tmp_path: Path, end: str, encoding: str, last: str) -> None:
    lines = ["first name.jpg", "", "büro\x85\u2028.jpg"]
    text = "\n".join(lines) + last
    (tmp_path / "list.txt").write_bytes(text.replace("\n", end).encode(encoding))
    assert read_lines(tmp_path / "list.txt") == lines


def test_names_that_are_not_utf8_are_those_of_the_files(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    touch(tmp_path / name)
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg\n")
    assert [tmp_path / line for line in read_lines(tmp_path / "list.txt")] == [tmp_path / name]


def test_a_binary_file_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\x89PNG\0\0")
    with pytest.raises(ValueError, match="not a text file"):
        read_lines(tmp_path / "list.txt")


def test_tabs_allow_blanks_in_names() -> None:
    assert split_names("a b  c\r", (3,)) == ["a", "b", "c"]
    assert split_names("a 1.png\tb 1.png\t\tf.flo\t", (3, 4)) == ["a 1.png", "b 1.png", "f.flo"]
    assert split_names("a b\tc", (3,)) == ["a", "b", "c"]
    assert split_names("a b\tc", (2,)) == ["a b", "c"]
