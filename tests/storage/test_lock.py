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
from ucn.storage import lease_holder
from ucn.storage.lease import exclusive
from ucn.storage.lease_file import hold_file
from ucn.storage.lease_holder import LEASE, Holder, parse_holder, this_driver
from ucn.storage.lease_object import ObjectLease, Seen, acquire, judge
from ucn.storage.stores.base import Store, write_bytes
from ucn.storage.stores.open import open_store
from ucn.storage.stores.s3_conditional import lease_object as s3_lease

OUT = "s3://leases/drives/train"
REFUSED = "another run writes here"


class Shelf:
    """An object of a store in memory, with the store's clock in hand."""

    folder = "s3://made-up/folder"

    def __init__(self) -> None:
        self.now, self.written = 1000.0, 0.0
        self.data: bytes | None = None
        self.loses_answers = 0

    def read(self) -> Seen | None:
        if self.data is None:
            return None
        return Seen(self.data, hashlib.md5(self.data).hexdigest(), self.now - self.written)

    def put(self, data: bytes, replaces: str | None) -> str | None:
        seen = self.read()
        if (seen and seen.etag) != replaces:
            return None
        self.data, self.written = data, self.now
        if self.loses_answers:
            # Done, repeated by the client, and then refused since it is done.
            self.loses_answers -= 1
            return None
        return hashlib.md5(data).hexdigest()

    def delete(self, etag: str) -> None:
        seen = self.read()
        if seen and seen.etag == etag:
            self.data = None


def driver(expiry_s: float = 60.0) -> Holder:
    return this_driver().model_copy(update={"expiry_s": expiry_s})


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
    while file not in store.sizes():
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
    made = boto3.resource("s3").Bucket("leases")
    made.create()
    yield
    made.objects.delete()
    made.delete()


def test_one_thread_at_a_time_holds_a_folder_and_nothing_stays(tmp_path: Path) -> None:
    folder, inside, held = tmp_path / "out", [0], list[int]()

    def compete(_: int) -> None:
        for _ in range(60):
            with suppress(UserError), hold_file(folder) as lease:
                inside[0] += 1
                lease.check()
                time.sleep(0)
                held.append(inside[0])
                inside[0] -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(compete, range(6)))
    assert set(held) == {1}
    assert list(folder.glob("*")) == []


def test_a_folder_that_was_there_stays_and_a_removed_lease_is_noticed(tmp_path: Path) -> None:
    with hold_file(tmp_path) as lease:
        lease.check()
        (tmp_path / LEASE).unlink()
        with hold_file(tmp_path) as other, pytest.raises(UserError, match="was removed while"):
            other.check()
            lease.check()
    assert list(tmp_path.iterdir()) == []


def test_the_refusal_says_who_since_when_and_what_to_do(tmp_path: Path) -> None:
    with hold_file(tmp_path), pytest.raises(UserError) as error, hold_file(tmp_path):
        pass
    text = str(error.value)
    assert text.startswith(f"{tmp_path}: {REFUSED} (host ")
    assert f"process {os.getpid()}, since 20" in text
    assert text.endswith("or choose another output folder")


def test_a_link_in_place_of_the_lease_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / LEASE).symlink_to(precious)
    with (
        pytest.raises(UserError, match=r"\.lease: is no file that can be locked"),
        hold_file(tmp_path),
    ):
        pass
    assert precious.read_text() == "mine"


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("ucn.storage.lease_file.fcntl.flock", refuse)
    with hold_file(tmp_path) as lease:
        lease.check()
    assert "has no locks" in caplog.text


def test_what_others_wrote_into_a_lease_is_not_shown() -> None:
    good = json.loads(this_driver().model_dump_json())
    assert parse_holder(json.dumps(good).encode()) is not None
    for change in ({"host": "a\nb"}, {"host": "\x1b[31m"}, {"since": "now"}, {"expiry_s": 1e9}):
        assert parse_holder(json.dumps(good | change).encode()) is None
    assert parse_holder(b"\xff") is None


@pytest.mark.parametrize("text", ["0", "abc", "nan", "1e9"])
def test_an_expiry_that_cannot_be_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lease_holder.EXPIRY_VARIABLE, text)
    with pytest.raises(UserError, match="not a number of seconds from 3 to 3600"):
        this_driver()


def test_judged_by_the_stores_clock_alone() -> None:
    assert judge("a", Seen(b"", "a", 59.0), 60) == "wait"
    assert judge("a", Seen(b"", "a", 61.0), 60) == "expired"
    assert judge("a", Seen(b"", "b", 0.0), 60) == "alive"
    assert judge("a", Seen(b"", "a", -3600.0), 60) == "wait"


def test_a_dead_holder_is_waited_for_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    shelf, dead, mine = Shelf(), driver(), driver()
    acquire(shelf, dead)
    waited: list[float] = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        shelf.now += seconds

    acquire(shelf, mine, pause)
    assert 60 <= sum(waited) <= 62
    assert parse_holder(shelf.data or b"") == mine
    assert caplog.text.count("waiting for another run (host ") == 1


def test_a_living_holder_is_left_alone_at_its_first_beat() -> None:
    shelf, mine = Shelf(), driver()
    etag = acquire(shelf, driver())
    waited: list[float] = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 15:
            assert shelf.put(driver().model_dump_json().encode(), etag)

    with pytest.raises(UserError, match=REFUSED):
        acquire(shelf, mine, pause)
    assert len(waited) == 15


def test_a_step_of_the_clients_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    acquire(shelf, driver())
    looks: list[float] = []

    def pause(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: 4e9)
        looks.append(seconds)
        if len(looks) == 3:
            shelf.data = None

    acquire(shelf, driver(), pause)
    assert len(looks) == 3, "waits until the holder lets go, however late it is here"


def test_of_two_that_find_an_expired_lease_one_has_it() -> None:
    shelf, late = Shelf(), driver()
    acquire(shelf, driver())
    shelf.now += 100
    seen = shelf.read()
    assert seen is not None
    acquire(shelf, driver())
    assert shelf.put(late.model_dump_json().encode(), seen.etag) is None


def test_lost_answers_lose_no_lease() -> None:
    shelf, mine = Shelf(), driver()
    shelf.loses_answers = 1
    lease = ObjectLease(shelf, mine, acquire(shelf, mine))
    shelf.loses_answers = 1
    lease.release()
    lease.check()
    assert shelf.data is None


def test_something_else_in_place_of_the_lease_is_named() -> None:
    shelf = Shelf()
    shelf.data = b"a film" * 1000
    with pytest.raises(UserError, match="its lease is not one of ours; delete that object"):
        acquire(shelf, driver())


def test_a_driver_that_was_cut_off_notices() -> None:
    shelf, mine = Shelf(), driver(3)
    lease = ObjectLease(shelf, mine, acquire(shelf, mine))
    shelf.now += 10
    acquire(shelf, driver())
    deadline = time.monotonic() + 20
    with pytest.raises(UserError, match="another run has taken over here \\(host "):
        while time.monotonic() < deadline:
            lease.check()
            time.sleep(0.01)
    lease.release()
    assert shelf.data is not None, "the other's lease is not deleted"


@pytest.mark.usefixtures("bucket")
def test_s3_refuses_a_second_driver_and_keeps_no_lease(
    world_root: Path, reference: dict[str, str]
) -> None:
    with exclusive(OUT) as lease:
        found = subprocess.run(command(world_root, OUT), capture_output=True, text=True)
        lease.check()
        assert set(open_store(OUT).sizes()) == {LEASE}
    assert found.returncode == 2
    waiting, refused = found.stderr.splitlines()
    assert "waiting for another run (host " in waiting
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
def test_the_age_is_that_of_the_server() -> None:
    thing = s3_lease(OUT)
    etag = thing.put(b"1", None)
    assert etag is not None
    assert thing.put(b"2", None) is None
    assert thing.put(b"2", '"other"') is None
    seen = thing.read()
    assert seen is not None
    assert seen.etag == etag
    assert -1 <= seen.age_s <= 5
    thing.delete('"other"')
    assert thing.read() is not None
    thing.delete(etag)
    assert thing.read() is None
    assert thing.put(b"2", etag) is None


def test_of_two_drivers_in_a_folder_one_is_refused_and_a_killed_one_holds_nobody_up(
    world_root: Path, tmp_path: Path, reference: dict[str, str]
) -> None:
    out = tmp_path / "out"
    words = command(world_root, str(out))
    first = start_and_stop(words, open_store(out), LEASE)
    try:
        second = subprocess.run(words, capture_output=True, text=True)
        assert (second.returncode, second.stderr.count("\n")) == (2, 1)
        assert f"ucn: {out}: {REFUSED} (host " in second.stderr
        assert f"process {first.pid}, since" in second.stderr
    finally:
        first.kill()
        first.wait()
    assert (out / LEASE).exists()
    preprocess(config(world_root, str(out)))
    assert digests(open_store(out)) == reference


def test_a_finished_dataset_is_not_locked_and_an_old_lease_is_swept(
    world_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out")
    preprocess(config(world_root, out))
    write_bytes(open_store(out), LEASE, this_driver().model_dump_json().encode())
    assert verify_dataset(out) == [
        ".lease: a run works here, or was interrupted; `ucn preprocess` sweeps it"
    ]
    preprocess(config(world_root, out))
    assert verify_dataset(out) == []
    monkeypatch.setattr(job, "exclusive", None)
    preprocess(config(world_root, out))


def test_two_configurations_at_once_do_not_mix(
    world_root: Path, tmp_path: Path, reference: dict[str, str]
) -> None:
    out = tmp_path / "out"
    with hold_file(out), pytest.raises(UserError, match=REFUSED):
        preprocess(config(world_root, str(out), gaps=(2,), overwrite=True))
    assert not out.exists()


def test_a_lost_lease_ends_the_run_before_the_manifest(
    world_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    made: list[str] = []

    def remove_lease(store: Store, name: str, *rest: object) -> object:
        made.append(name)
        (out / LEASE).unlink(missing_ok=True)
        return original(store, name, *rest)

    original: Callable[..., object] = job.write_shard
    monkeypatch.setattr(job, "write_shard", remove_lease)
    with pytest.raises(UserError, match="was removed while this run worked"):
        preprocess(config(world_root, str(out)))
    assert len(made) == 1
    assert not (out / "manifest.json").exists()
