"""Reruns into an output folder, and the progress line."""

import io
from pathlib import Path

import pytest

from ucn.errors import UserError
from ucn.training.progress import ProgressLine
from ucn.training.record import CHECKPOINTS, MODEL, RECORD, RunRecord, open_record, write_record


def test_record_tells_what_is_left_to_do(tmp_path: Path) -> None:
    assert open_record(tmp_path, "f1", overwrite=False) == RunRecord("f1")
    write_record(tmp_path, RunRecord("f1", "RUNNING", "run"))
    assert open_record(tmp_path, "f1", overwrite=True) == RunRecord("f1", "RUNNING", "run")
    with pytest.raises(UserError, match=r"another configuration.*overwrite"):
        open_record(tmp_path, "f2", overwrite=False)


def test_overwrite_removes_only_what_training_made(tmp_path: Path) -> None:
    write_record(tmp_path, RunRecord("f1", "FINISHED", "run"))
    for folder in (MODEL, CHECKPOINTS, "mine"):
        (tmp_path / folder).mkdir()
    assert open_record(tmp_path, "f2", overwrite=True) == RunRecord("f2")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("content", ["{", "[]", '{"fingerprint": "f", "colour": 1}'])
def test_damaged_record_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(UserError, match="damaged"):
        open_record(tmp_path, "f", overwrite=False)


def test_progress_line_shows_what_is_known() -> None:
    stream = io.StringIO()
    line = ProgressLine(100, stream)
    line.update(-1, {})
    line.update(9, {"loss": 0.5, "hit_ratio": 0.25, "pairs_per_second": 12.0, "gradient_norm": 1})
    line.update(10, {"loss": 0.4})  # too soon after the last line for a log file
    line.update(99, {"loss": 0.1, "validation/pck/10": 88.0, "workers": 2.0})
    line.close()
    first, last = stream.getvalue().splitlines()
    assert first == "train 10/100, loss 0.5000, hits 0.25, pairs/s 12.0"
    assert last == "train 100/100, loss 0.1000, pck/10 88.0, workers 2, 0:00 left"


def test_time_left_counts_from_where_the_run_resumed() -> None:
    line = ProgressLine(100, io.StringIO())
    line.update(49, {})
    assert line._first is not None
    started = line._first[1]
    assert line.describe(59, {}, started + 20.0).endswith("1:20 left")  # 40 steps at 2 s
