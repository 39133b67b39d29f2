"""Ray's record of checkpoints, as a kill or a full disk in its midst leaves it."""

from pathlib import Path

import pytest

from ucn.training.loop.checkpoint import save_checkpoint
from ucn.training.loop.checkpoint_record import mend_record, sweep_unfinished

RECORD = "checkpoint_manager_snapshot.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two checkpoints, the newer of an earlier name: the clock went back between them."""
    save_checkpoint(tmp_path / "checkpoint_2026-11-21_19-59-59", {"step": 3})
    save_checkpoint(tmp_path / "checkpoint_2026-11-21_19-00-01", {"step": 6})
    return tmp_path


@pytest.mark.parametrize("left", ["", '{"ray_version": "2.60.0", "check', "null"])
def test_half_a_record_goes_and_the_newest_checkpoint_stays(folder: Path, left: str) -> None:
    (folder / RECORD).write_text(left)
    newest = mend_record(folder)
    assert newest is not None
    assert newest.name == "checkpoint_2026-11-21_19-00-01"
    assert [path.name for path in folder.iterdir()] == [newest.name]


def test_a_sound_record_or_none_is_left_to_ray(folder: Path) -> None:
    assert mend_record(folder) is None
    (folder / RECORD).write_text('{"ray_version": "2.60.0"}')
    before = sorted(folder.rglob("*"))
    assert mend_record(folder) is None
    assert sorted(folder.rglob("*")) == before
    assert mend_record(folder / "never begun") is None


def test_what_was_half_written_goes(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints" / "run"
    save_checkpoint(checkpoints / "whole", {"step": 3})
    (checkpoints / "cut").mkdir()
    (checkpoints / "cut" / ".tmp-1-state.pt").touch()
    (checkpoints / "whole" / ".tmp-2-state.pt").touch()
    (tmp_path / ".tmp-3-model").mkdir()
    sweep_unfinished(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["state.pt"]
    assert [path.name for path in checkpoints.iterdir()] == ["whole"]


def test_half_a_record_before_the_first_checkpoint(tmp_path: Path) -> None:
    (tmp_path / RECORD).touch()
    assert mend_record(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
