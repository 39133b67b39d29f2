"""The state of an output folder, and the progress line."""

import io
import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from ucn.errors import UserError
from ucn.storage.stores import open_store, write_bytes
from ucn.training.config import TrainConfig
from ucn.training.progress import ProgressLine
from ucn.training.run_state import (
    CHECKPOINTS,
    MODEL,
    STATE_FILE,
    RunState,
    fingerprints,
    open_run_state,
    read_run_state,
    write_run_state,
)


def test_record_tells_what_is_left_to_do(tmp_path: Path) -> None:
    output = str(tmp_path)
    assert open_run_state(output, ["f1", "older"], overwrite=False) == RunState("f1")
    write_run_state(output, RunState("f1", "RUNNING", "run"))
    assert open_run_state(str(tmp_path), ["f1", "older"], overwrite=True) == RunState(
        "f1", "RUNNING", "run"
    )
    with pytest.raises(UserError, match=r"another configuration.*overwrite"):
        open_run_state(str(tmp_path), ["f2"], overwrite=False)


def stored_by_version_0_1_0() -> dict[str, Any]:
    text = (Path(__file__).parents[1] / "version_0_1_0.json").read_text()
    return dict(json.loads(text)["training"])


def test_a_training_of_version_0_1_0_is_recognised(tmp_path: Path) -> None:
    """It stored a digest of all options, under their former names."""
    stored = stored_by_version_0_1_0()
    (tmp_path / STATE_FILE).write_text(json.dumps(stored["training.json"]))
    config = TrainConfig.model_validate(stored["configuration"])
    state = open_run_state(str(tmp_path), fingerprints(config, stored["digests"]), overwrite=False)
    assert state.status == "FINISHED"
    other = config.model_copy(update={"seed": 1})
    with pytest.raises(UserError, match="another configuration"):
        open_run_state(str(tmp_path), fingerprints(other, stored["digests"]), overwrite=False)


def test_version_0_1_0_did_not_train_with_options_added_since() -> None:
    class NewConfig(TrainConfig):
        option: int = 0

    stored = stored_by_version_0_1_0()
    config = NewConfig.model_validate(stored["configuration"])
    assert stored["training.json"]["fingerprint"] in fingerprints(config, stored["digests"])
    other = config.model_copy(update={"option": 1})
    assert fingerprints(other, stored["digests"]) == [other.fingerprint(*stored["digests"])]


def test_overwrite_removes_only_what_training_made(tmp_path: Path) -> None:
    write_run_state(str(tmp_path), RunState("f1", "FINISHED", "run"))
    for folder in (MODEL, CHECKPOINTS, "mine"):
        (tmp_path / folder).mkdir()
    assert open_run_state(str(tmp_path), ["f2"], overwrite=True) == RunState("f2")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_state_in_a_store(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket="states")
    output = "s3://states/my run"
    assert open_run_state(output, ["f1"], overwrite=False) == RunState("f1")
    for status in ("RUNNING", "FINISHED"):
        write_run_state(output, RunState("f1", status, "run"))
        assert read_run_state(output) == RunState("f1", status, "run")
    for folder in (MODEL, f"{CHECKPOINTS}/f1/step-00000001", "mine"):
        write_bytes(open_store(f"{output}/{folder}"), "file", b"content")
    with pytest.raises(UserError, match=f"^{output}: holds the training of another"):
        open_run_state(output, ["f2"], overwrite=False)
    assert open_run_state(output, ["f2"], overwrite=True) == RunState("f2")
    keys = [one.key for one in boto3.resource("s3").Bucket("states").objects.all()]
    assert [key for key in keys if not key.endswith("/")] == ["my run/mine/file"]


@pytest.mark.parametrize("content", ["{", "[]", '{"fingerprint": "f", "colour": 1}'])
def test_damaged_record_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / STATE_FILE).write_text(content)
    with pytest.raises(UserError, match="damaged"):
        open_run_state(str(tmp_path), ["f"], overwrite=False)


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
