"""Fixtures of the security tests."""

from pathlib import Path
from typing import Any

import pytest


class _Trap:
    """Executed if it is ever unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """The file that a trap makes when it is sprung."""
    return tmp_path / "sprung"


@pytest.fixture
def trap(victim: Path) -> object:
    """Makes the victim if it is ever unpickled."""
    return _Trap(victim)
