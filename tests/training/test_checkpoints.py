"""Which checkpoint a new start of a driver goes on from, in a folder and in a store."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from pyarrow.fs import FileSelector

from ucn.errors import UserError
from ucn.storage.arrow import filesystem
from ucn.storage.stores import open_store, write_bytes
from ucn.training.loop.checkpoint import (
    STATE,
    checkpoint_name,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)


@pytest.fixture(params=["folder", "s3"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Where the checkpoints of all starts are."""
    if request.param == "folder":
        yield str(tmp_path / "checkpoints")
        return
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("moto_server"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = boto3.resource("s3").Bucket("states")
    bucket.create()
    yield "s3://states/my run/checkpoints"
    bucket.objects.delete()
    bucket.delete()


def files(place: str) -> list[str]:
    system, folder = filesystem(place)
    entries = system.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True))
    return sorted(entry.path[len(folder) + 1 :] for entry in entries if entry.is_file)


def test_the_most_steps_count_and_all_but_two_go(place: str) -> None:
    assert newest_checkpoint(place, "f1") is None
    for start, step in (("f1-b", 20), ("f1-a", 100), ("f1-b", 30), ("f2-a", 200)):
        save_checkpoint(f"{place}/{start}/{checkpoint_name(step)}", {"step": step})
    for record in (f"{place}/f1-a", f"{place}/f1-c"):
        write_bytes(open_store(record), "checkpoint_manager_snapshot.json", b'{"ray_ver')
    found = newest_checkpoint(place, "f1")
    assert found == f"{place}/f1-a/step-00000100"
    assert load_checkpoint(found) == {"step": 100}
    assert files(place) == [f"f1-a/step-00000100/{STATE}", f"f1-b/step-00000030/{STATE}"]
    assert newest_checkpoint(place, "f1") == found
    assert newest_checkpoint(place, "f2") is None
    assert files(place) == []


def test_half_a_checkpoint_is_left_out_and_a_damaged_one_is_told(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(f"{place}/f1-a/{checkpoint_name(3)}", {"step": 3})
    write_bytes(open_store(f"{place}/f1-a/{checkpoint_name(6)}"), ".tmp-1-state.pt", b"half")
    found = newest_checkpoint(place, "f1")
    assert found == f"{place}/f1-a/step-00000003"
    (warning,) = [one.message for one in caplog.records if one.levelname == "WARNING"]
    assert "f1-a/step-00000006: not complete" in warning
    assert files(place) == [f"f1-a/step-00000003/{STATE}"]
    write_bytes(open_store(found), STATE, b"damaged")
    with pytest.raises(UserError, match=f"^{found}/{STATE}: cannot be resumed from"):
        load_checkpoint(found)


def test_a_training_of_the_version_before_goes_on(place: str) -> None:
    """Its checkpoints are named by the clock, below the fingerprint alone."""
    for name in ("checkpoint_2026-11-21_19-00-01", "checkpoint_2026-11-21_19-59-59"):
        save_checkpoint(f"{place}/f1/{name}", {"step": 6})
    assert newest_checkpoint(place, "f1") == f"{place}/f1/checkpoint_2026-11-21_19-59-59"
    save_checkpoint(f"{place}/f1-a/{checkpoint_name(9)}", {"step": 9})
    assert newest_checkpoint(place, "f1") == f"{place}/f1-a/step-00000009"


def test_what_a_killed_worker_left_of_a_checkpoint_goes_when_it_is_written(tmp_path: Path) -> None:
    folder = tmp_path / checkpoint_name(3)
    folder.mkdir()
    (folder / ".tmp-1-state.pt").touch()
    save_checkpoint(folder, {"step": 3})
    assert [path.name for path in folder.iterdir()] == [STATE]
