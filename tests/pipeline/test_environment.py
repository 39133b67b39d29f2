"""Processes without a home folder or a user name, as containers run them."""

import getpass
import os
import tempfile
from pathlib import Path

import pytest

from ucn.pipeline.environment import complete_environment


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A temporary folder, and an environment without folders for caches."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for variable in ("XDG_CACHE_HOME", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    return tmp_path


def test_without_a_home_a_private_folder_is_used(
    monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    monkeypatch.setenv("HOME", str(temporary / "none"))
    complete_environment()
    folder = temporary / f"ucn-{os.getuid()}"
    assert Path.home() == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.environ["XDG_CACHE_HOME"] == os.environ["MPLCONFIGDIR"] == str(folder)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_folder_that_another_user_has_prepared_is_not_used(
    monkeypatch: pytest.MonkeyPatch, temporary: Path, kind: str
) -> None:
    taken = temporary / f"ucn-{os.getuid()}"
    if kind == "link":
        (temporary / "theirs").mkdir()
        taken.symlink_to(temporary / "theirs")
    else:
        taken.write_text("")
    monkeypatch.setenv("HOME", str(temporary / "none"))
    complete_environment()
    assert Path.home().parent == temporary
    assert Path.home().resolve() not in (taken, temporary / "theirs")


def test_a_usable_environment_stays(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    monkeypatch.setenv("HOME", str(temporary))
    before = dict(os.environ)
    complete_environment()
    assert dict(os.environ) == before


def test_a_user_without_a_name_gets_one(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    complete_environment()
    assert getpass.getuser() == f"uid-{os.getuid()}"
