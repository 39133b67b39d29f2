"""Atomic publication: whole or not at all, and errors that a user can mend."""

import errno
from pathlib import Path

import pytest

from ucn.errors import UserError
from ucn.storage.files import (
    atomic_folder,
    atomic_path,
    make_folder,
    sweep_temporaries,
    write_bytes,
    write_json,
)


def test_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [2.5, None]})
    write_json(tmp_path / "b.json", {"a": [2.5, None], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "file") as temporary:
        temporary.write_bytes(b"half of the n")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / text).write_text(text)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new"]
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "model") as temporary:
        (temporary / "broken").write_text("half")
        raise RuntimeError
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EROFS, "cannot be written"),
        (errno.EACCES, "cannot be written"),
    ],
)
def test_errors_that_a_user_can_mend(tmp_path: Path, code: int, message: str) -> None:
    path = tmp_path / "file"
    with pytest.raises(UserError, match=f"{path}: {message}"), atomic_path(path):
        raise OSError(code, "from the system")
    assert list(tmp_path.iterdir()) == []


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="from the system"), atomic_path(tmp_path / "file"):
        raise OSError(errno.EIO, "from the system")


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for make in (make_folder, lambda path: write_bytes(path / "x", b"")):
        with pytest.raises(UserError, match="a file is in the way"):
            make(tmp_path / "file" / "folder")


def test_leftovers_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1-a.tar").write_text("")
    (tmp_path / ".tmp-2-model").mkdir()
    (tmp_path / ".tmp-2-model" / "weights").write_text("")
    (tmp_path / "kept").write_text("")
    assert sweep_temporaries(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
