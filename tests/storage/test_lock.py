"""One driver at a time in a folder, on a disk and in an object store, and none left behind."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import boto3
import pytest

from ucn.errors import UserError
from ucn.preprocessing import job
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.sources.kitti.raw import KittiRawConfig
from ucn.storage.lock import (
    EXPIRY_VARIABLE,
    LOCK_NAME,
    ObjectLock,
    Owner,
    file_lock,
    folder_lock,
    parse_owner,
    this_owner,
)
from ucn.storage.s3 import ObjectVersion, S3Store
from ucn.storage.stores import Store, open_store, write_bytes

OUT = "s3://locks/drives/train"
REFUSED = "another run writes here"


class MemoryStore:
    """The lock object of a store, in memory, with a clock that tests set."""

    uri = "s3://made-up/folder"

    def __init__(self) -> None:
        self.now, self.written = 1000.0, 0.0
        self.data: bytes | None = None
        self.lost_answers = 0

    def read_version(self, name: str, size: int) -> ObjectVersion | None:
        assert name == LOCK_NAME
        if self.data is None:
            return None
        etag = hashlib.md5(self.data).hexdigest()
        return ObjectVersion(self.data[:size], etag, self.now - self.written)

    def put_if(self, name: str, data: bytes, etag: str | None) -> str | None:
        found = self.read_version(name, 0)
        if (found and found.etag) != etag:
            return None
        self.data, self.written = data, self.now
        if self.lost_answers:
            # The client repeats the request, whose condition does not hold any more.
            self.lost_answers -= 1
            return None
        return hashlib.md5(data).hexdigest()

    def delete_if(self, name: str, etag: str) -> None:
        found = self.read_version(name, 0)
        if found and found.etag == etag:
            self.data = None

    def replace(self, owner: Owner) -> None:
        self.data, self.written = owner.encode(), self.now

    def owner(self) -> Owner | None:
        return parse_owner(self.data or b"")


def owner(expiry_s: float = 60.0) -> Owner:
    return this_owner().model_copy(update={"expiry_s": expiry_s})


def config(root: Path, out: str, **options: object) -> KittiRawConfig:
    defaults = {"gaps": (1,), "min_matches": 50, "pairs_per_shard": 3, "workers": 0}
    return KittiRawConfig(root=str(root), out=out, **defaults | options)


def command(root: Path, out: str) -> list[str]:
    words = [
        sys.executable,
        "-m",
        "ucn.pipeline.main",
        "preprocess",
        "kitti-raw",
        "--root",
        str(root),
    ]
    words += ["--out", out, "--gaps", "1", "--min-matches", "50", "--pairs-per-shard", "3"]
    return [*words, "--workers", "0"]


def digests(store: Store) -> dict[str, str]:
    return {name: hashlib.sha256(store.read(name)).hexdigest() for name in sorted(store.sizes())}


def start_and_stop(words: list[str], store: Store, file: str) -> subprocess.Popen[str]:
    """Start a driver, and stop it (it holds still, but lives) once it has written a file."""
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not store.sizes().get(file):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    return process


@pytest.fixture(scope="module")
def reference(world_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("reference")
    preprocess(config(world_root, str(out)))
    return digests(open_store(out))


@pytest.fixture
def bucket(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-must-not-show")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("UCN_LEASE_S", "3")
    made = boto3.resource("s3").Bucket("locks")
    made.create()
    yield
    made.objects.delete()
    made.delete()


def test_one_thread_at_a_time_holds_a_folder_and_nothing_stays(tmp_path: Path) -> None:
    folder, inside, held = tmp_path / "out", [0], list[int]()

    def compete(_: int) -> None:
        for _ in range(60):
            with suppress(UserError), file_lock(folder) as lock:
                inside[0] += 1
                lock.check()
                time.sleep(0)
                held.append(inside[0])
                inside[0] -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(compete, range(6)))
    assert set(held) == {1}
    assert list(folder.glob("*")) == []


def test_a_folder_that_was_there_stays_and_a_removed_lock_is_noticed(tmp_path: Path) -> None:
    with file_lock(tmp_path) as lock:
        lock.check()
        (tmp_path / LOCK_NAME).unlink()
        with file_lock(tmp_path) as other, pytest.raises(UserError, match="was removed during"):
            other.check()
            lock.check()
    assert list(tmp_path.iterdir()) == []


def test_the_refusal_says_who_since_when_and_what_to_do(tmp_path: Path) -> None:
    with file_lock(tmp_path), pytest.raises(UserError) as error, file_lock(tmp_path):
        pass
    text = str(error.value)
    assert text.startswith(f"{tmp_path}: {REFUSED} (host ")
    assert f"process {os.getpid()}, since 20" in text
    assert text.endswith("or choose another output folder")


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / LOCK_NAME).symlink_to(precious)
    with (
        pytest.raises(UserError, match=r"\.lease: not a regular file; remove it"),
        file_lock(tmp_path),
    ):
        pass
    assert precious.read_text() == "mine"


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("ucn.storage.lock.fcntl.flock", refuse)
    with file_lock(tmp_path) as lock:
        lock.check()
    assert "has no locks" in caplog.text


def test_a_store_without_conditional_puts_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with folder_lock("gs://bucket/folder") as lock:
        lock.check()
    assert "gs://bucket/folder: such a store has no locks" in caplog.text


def test_what_others_wrote_into_a_lock_is_not_shown() -> None:
    good = json.loads(this_owner().model_dump_json())
    assert parse_owner(json.dumps(good).encode()) is not None
    for change in ({"host": "a\nb"}, {"host": "\x1b[31m"}, {"since": "now"}, {"expiry_s": 1e9}):
        assert parse_owner(json.dumps(good | change).encode()) is None
    assert parse_owner(b"\xff") is None


@pytest.mark.parametrize("text", ["0", "abc", "nan", "1e9"])
def test_an_expiry_that_cannot_be_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXPIRY_VARIABLE, text)
    with pytest.raises(UserError, match="not a number of seconds from 3 to 3600"):
        this_owner()


def test_a_dead_owner_is_waited_for_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    store, mine = MemoryStore(), owner()
    store.replace(owner())
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        store.now += seconds

    with ObjectLock(store, mine, sleep):
        assert store.owner() == mine
    assert 60 <= sum(waited) <= 62
    assert caplog.text.count("locked by another run (host ") == 1


def test_a_lock_that_expired_before_the_start_is_replaced_at_once() -> None:
    store = MemoryStore()
    store.replace(owner())
    store.now += 61

    def sleep(_: float) -> None:
        raise AssertionError("waits")

    with ObjectLock(store, owner(), sleep) as lock:
        lock.check()


def test_a_clock_of_the_store_that_steps_back_does_not_expire_a_lock() -> None:
    store = MemoryStore()
    store.replace(owner())
    store.now -= 3600
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 100:
            store.data = None

    with ObjectLock(store, owner(), sleep):
        assert len(waited) == 100


def test_an_owner_that_renews_its_lock_is_not_waited_for_any_longer() -> None:
    store, other = MemoryStore(), owner()
    store.replace(other)
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 15:
            store.replace(other.model_copy(update={"beat": 1}))

    with pytest.raises(UserError, match=REFUSED), ObjectLock(store, owner(), sleep):
        pass
    assert len(waited) == 15
    assert store.owner() == other.model_copy(update={"beat": 1})


def test_a_step_of_the_clients_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    store.replace(owner())
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: 4e9)
        waited.append(seconds)
        if len(waited) == 3:
            store.data = None

    with ObjectLock(store, owner(), sleep):
        assert len(waited) == 3, "waits until the owner releases the lock"


def test_of_two_that_find_an_expired_lock_one_gets_it() -> None:
    store, first, second = MemoryStore(), owner(), owner()
    store.replace(owner())
    store.now += 100
    original = store.put_if

    def put_too_late(name: str, data: bytes, etag: str | None) -> str | None:
        store.replace(first)
        return original(name, data, etag)

    def sleep(_: float) -> None:
        store.replace(first.model_copy(update={"beat": 1}))

    store.put_if = put_too_late
    with pytest.raises(UserError, match=REFUSED), ObjectLock(store, second, sleep):
        pass


def test_lost_answers_lose_no_lock() -> None:
    store = MemoryStore()
    store.lost_answers = 1
    with ObjectLock(store, owner()) as lock:
        store.lost_answers = 1
    lock.check()
    assert store.data is None


def test_something_else_in_place_of_the_lock_is_named() -> None:
    store = MemoryStore()
    store.data = b"a film" * 1000
    with (
        pytest.raises(UserError, match=r"/\.lease: not a lock of this program; delete that object"),
        ObjectLock(store, owner()),
    ):
        pass


def test_an_owner_that_was_cut_off_notices() -> None:
    store = MemoryStore()
    with ObjectLock(store, owner(3)) as lock:
        store.now += 10
        store.replace(owner())
        deadline = time.monotonic() + 20
        with pytest.raises(UserError, match="another run has taken over here \\(host "):
            while time.monotonic() < deadline:
                lock.check()
                time.sleep(0.01)
    assert store.data is not None, "the other's lock is not deleted"


@pytest.mark.usefixtures("bucket")
def test_s3_refuses_a_second_driver_and_keeps_no_lock(
    world_root: Path, reference: dict[str, str]
) -> None:
    with folder_lock(OUT) as lock:
        found = subprocess.run(command(world_root, OUT), capture_output=True, text=True)
        lock.check()
        assert set(open_store(OUT).sizes()) == {LOCK_NAME}
    assert found.returncode == 2
    waiting, refused = found.stderr.splitlines()
    assert "locked by another run (host " in waiting
    assert refused.startswith(f"ucn: {OUT}: {REFUSED} (host ")
    assert "a-secret-that-must-not-show" not in found.stderr
    preprocess(config(world_root, OUT))
    assert digests(open_store(OUT)) == reference


@pytest.mark.usefixtures("bucket")
def test_a_stopped_driver_on_s3_is_replaced_and_finds_out(
    world_root: Path, reference: dict[str, str]
) -> None:
    store = open_store(OUT)
    first = start_and_stop(command(world_root, OUT), store, "train-000000.json")
    try:
        preprocess(config(world_root, OUT))
        assert digests(store) == reference
        first.send_signal(signal.SIGCONT)
        _, said = first.communicate(timeout=60)
    finally:
        first.kill()
    assert first.returncode == 2
    assert f"{OUT}: another run has taken over here (ended)" in said
    assert digests(store) == reference


@pytest.mark.usefixtures("bucket")
def test_conditional_requests_and_the_age_by_the_servers_clock() -> None:
    store, name = S3Store(OUT), "object"
    etag = store.put_if(name, b"12345", None)
    assert etag is not None
    assert store.put_if(name, b"2", None) is None
    assert store.put_if(name, b"2", '"other"') is None
    found = store.read_version(name, 3)
    assert found is not None
    assert (found.data, found.etag) == (b"123", etag)
    assert -1 <= found.age_s <= 5
    store.delete_if(name, '"other"')
    assert store.read_version(name, 3) is not None
    store.delete_if(name, etag)
    assert store.read_version(name, 3) is None
    assert store.put_if(name, b"2", etag) is None


def test_of_two_drivers_in_a_folder_one_is_refused_and_a_killed_one_holds_nobody_up(
    world_root: Path, tmp_path: Path, reference: dict[str, str]
) -> None:
    out = tmp_path / "out"
    words = command(world_root, str(out))
    first = start_and_stop(words, open_store(out), LOCK_NAME)
    try:
        second = subprocess.run(words, capture_output=True, text=True)
        assert (second.returncode, second.stderr.count("\n")) == (2, 1)
        assert f"ucn: {out}: {REFUSED} (host " in second.stderr
        assert f"process {first.pid}, since" in second.stderr
    finally:
        first.kill()
        first.wait()
    assert (out / LOCK_NAME).exists()
    preprocess(config(world_root, str(out)))
    assert digests(open_store(out)) == reference


def test_a_finished_dataset_is_not_locked_and_an_old_lock_is_swept(
    world_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out")
    preprocess(config(world_root, out))
    write_bytes(open_store(out), LOCK_NAME, this_owner().model_dump_json().encode())
    assert verify_dataset(out) == [
        ".lease: a run works here, or was interrupted; `ucn preprocess` sweeps it"
    ]
    preprocess(config(world_root, out))
    assert verify_dataset(out) == []
    monkeypatch.setattr(job, "folder_lock", None)
    preprocess(config(world_root, out))


def test_two_configurations_at_once_do_not_mix(
    world_root: Path, tmp_path: Path, reference: dict[str, str]
) -> None:
    out = tmp_path / "out"
    with file_lock(out), pytest.raises(UserError, match=REFUSED):
        preprocess(config(world_root, str(out), gaps=(2,), overwrite=True))
    assert not out.exists()


def test_a_lost_lock_ends_the_run_before_the_manifest(
    world_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    made: list[str] = []

    def remove_lock(store: Store, name: str, *rest: object) -> object:
        made.append(name)
        (out / LOCK_NAME).unlink(missing_ok=True)
        return original(store, name, *rest)

    original: Callable[..., object] = job.write_shard
    monkeypatch.setattr(job, "write_shard", remove_lock)
    with pytest.raises(UserError, match="was removed during this run"):
        preprocess(config(world_root, str(out)))
    assert len(made) == 1
    assert not (out / "manifest.json").exists()
