"""Notices of what a command waits for."""

import re
import time

import pytest

from ucn import notice as notices
from ucn.notice import notice


def test_a_short_wait_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    with notice("starting Ray"):
        pass
    assert capsys.readouterr().err == ""


def test_a_long_wait_is_told_again_and_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "FIRST_S", 0.01)
    monkeypatch.setattr(notices, "EVERY_S", 0.02)
    lines: list[str] = []
    with pytest.raises(ValueError, match="end"), notice("starting Ray"):
        while len(lines) < 3:
            time.sleep(0.01)
            lines += capsys.readouterr().err.splitlines()
        raise ValueError("end")
    assert lines[0] == "starting Ray ..."
    assert all(re.fullmatch(r"starting Ray \.\.\., \d+ s", line) for line in lines[1:])
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().err == ""
