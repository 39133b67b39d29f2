"""Shards on an S3-protocol server on loopback: the same bytes and promises as in a folder."""

import errno
import hashlib
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3
import numpy as np
import pytest

from ucn.errors import UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.sources.kitti.raw import KittiRawConfig
from ucn.storage.arrow import ArrowStore, delete_entries, storage_errors
from ucn.storage.lock import LOCK_NAME
from ucn.storage.s3 import S3Store
from ucn.storage.stores import (
    LocalStore,
    Store,
    absolute_uri,
    open_store,
    publishing_folder,
    write_bytes,
)

BUCKET = "shards"


@pytest.fixture
def bucket(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket, and the environment that leads to it."""
    for name, value in environment(moto_server).items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield BUCKET
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)


def environment(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "a-secret-that-must-not-show",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


class Faults:
    """A proxy before the server that fails some requests, by a seeded plan.

    Args:
        server: where to pass the others on.
        fail: from (how many requests came so far, method, path) to ``500``, ``503``, ``cut`` (the
            answer breaks off in its midst), ``lost`` (done, but the answer is 500) or None.
    """

    def __init__(self, server: str, fail: Callable[[int, str, str], str | None]) -> None:
        self.count = 0
        self.failed: list[str] = []
        lock = threading.Lock()
        faults = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                body = self.read_body()
                with lock:
                    kind = fail(faults.count, self.command, self.path)
                    faults.count += 1
                    if kind:
                        faults.failed.append(kind)
                if kind in ("500", "503"):
                    self.answer(int(kind), {}, b"")
                    return
                status, headers, data = self.pass_on(body)
                if kind == "lost":
                    self.answer(500, {}, b"")
                elif kind == "cut" and len(data) > 1:
                    self.answer(status, headers, data, sent=len(data) // 2)
                    self.close_connection = True
                else:
                    self.answer(status, headers, data)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any

            def read_body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    blocks = []
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        blocks.append(self.rfile.read(size))
                        self.rfile.readline()
                    while self.rfile.readline().strip():
                        pass
                    return b"".join(blocks)
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def pass_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                headers = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in ("host", "transfer-encoding", "content-length", "expect")
                }
                headers.setdefault("Content-Type", "application/octet-stream")
                request = Request(
                    server + self.path, data=body or None, headers=headers, method=self.command
                )
                try:
                    with urlopen(request) as found:
                        return found.status, dict(found.headers), found.read()
                except HTTPError as error:
                    return error.code, dict(error.headers), error.read()

            def answer(
                self, status: int, headers: dict[str, str], data: bytes, sent: int | None = None
            ) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "connection", "date", "server"):
                        self.send_header(name, value)
                length = headers.get("Content-Length", str(len(data)))
                self.send_header(
                    "Content-Length", length if self.command == "HEAD" else str(len(data))
                )
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data if sent is None else data[:sent])

        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._proxy.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()


@pytest.fixture
def through_faults(
    moto_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Callable[[int, str, str], str | None]], Faults]]:
    """Put a failing proxy before the server."""
    made: list[Faults] = []

    def start(fail: Callable[[int, str, str], str | None]) -> Faults:
        made.append(Faults(moto_server, fail))
        monkeypatch.setenv("AWS_ENDPOINT_URL", made[-1].address)
        return made[-1]

    yield start
    for faults in made:
        faults.close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)


@pytest.fixture(params=["local", "s3", "arrow"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(tmp_path / "folder")
    if request.param == "arrow":
        # pyarrow's local file system stands for those of its that no server is at hand for.
        return ArrowStore(f"file://{tmp_path}/folder")
    request.getfixturevalue("bucket")
    return open_store(f"s3://{BUCKET}/folder")


def test_every_store_keeps_the_same_promises(store: Store) -> None:
    assert store.sizes() == {}
    store.prepare()
    with pytest.raises(FileNotFoundError):
        store.read("a.json")
    with pytest.raises(FileNotFoundError), store.local_copy("a.json"):
        pass
    store.delete("a.json")
    data = bytes(range(256)) * 50
    write_bytes(store, "a.json", data)
    write_bytes(store, "b.tar", b"")
    assert store.sizes() == {"a.json": len(data), "b.tar": 0}
    assert store.read("a.json") == data
    assert store.read("a.json", 100, 300) == data[100:400]
    assert store.read("a.json", 12700) == data[12700:]
    assert store.read("a.json", 12700, 5000) == data[12700:]
    assert store.read("b.tar") == b""
    with store.local_copy("a.json") as path:
        assert path.read_bytes() == data
    write_bytes(store, "a.json", b"other")
    assert store.read("a.json") == b"other"
    store.delete("a.json")
    assert store.sizes() == {"b.tar": 0}
    copy = pickle.loads(pickle.dumps(store))
    assert copy.read("b.tar") == b""


def test_a_writer_that_fails_publishes_nothing(store: Store) -> None:
    store.prepare()
    write_bytes(store, "a.tar", b"whole")
    with pytest.raises(RuntimeError), store.publishing("a.tar") as path:
        path.write_bytes(b"half")
        raise RuntimeError("killed")
    assert store.read("a.tar") == b"whole"
    assert store.sizes() == {"a.tar": 5}


def test_a_folder_is_completed_by_its_marker(store: Store) -> None:
    for text in (b"old", b"new"):
        with publishing_folder(store.uri, marker="a.json") as folder:
            for name in ("a.json", "b.tar"):
                (folder / name).write_bytes(text)
        assert store.sizes() == {"a.json": 3, "b.tar": 3}
        assert store.read("a.json") == store.read("b.tar") == text
    with pytest.raises(RuntimeError), publishing_folder(store.uri, marker="a.json") as folder:
        (folder / "a.json").write_bytes(b"half")
        raise RuntimeError("killed")
    assert store.read("a.json") == b"new"


@pytest.mark.usefixtures("bucket")
def test_an_upload_that_fails_leaves_no_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(OUT)
    write_bytes(store, "a.json", b"old")

    def fail(self: S3Store, name: str, path: Path) -> None:
        raise UserError("the network is gone")

    monkeypatch.setattr(S3Store, "_publish", fail)
    with pytest.raises(UserError), publishing_folder(OUT, marker="a.json") as folder:
        (folder / "a.json").write_bytes(b"new")
        (folder / "b.tar").write_bytes(b"new")
    assert store.sizes() == {}


def test_errors_of_pyarrow_are_told_with_the_address(tmp_path: Path) -> None:
    place = "s3://runs/one"
    with (
        pytest.raises(UserError, match=f"^{place}: cannot be used .*AWS Error"),
        storage_errors(place),
    ):
        raise OSError("AWS Error NETWORK_CONNECTION\nmore lines")
    with (
        pytest.raises(UserError, match=f"^{tmp_path}: the disk is full"),
        storage_errors(str(tmp_path)),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_files_and_subfolders_are_deleted_by_name(store: Store) -> None:
    delete_entries(store.uri, ["a.json"])
    store.prepare()
    write_bytes(store, "a.json", b"a")
    for name in ("b", "c"):
        write_bytes(open_store(f"{store.uri}/{name}/d"), "e.tar", b"e")
    delete_entries(store.uri, ["a.json", "b", "c/none"])
    assert store.sizes() == {}
    assert open_store(f"{store.uri}/b/d").sizes() == {}
    assert open_store(f"{store.uri}/c/d").read("e.tar") == b"e"


def test_uris_lead_to_their_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("x") == LocalStore(str(tmp_path / "x"))
    assert open_store(f"file://{tmp_path}/x") == LocalStore(str(tmp_path / "x"))
    assert isinstance(open_store("s3://bucket/x/"), S3Store)
    assert open_store("s3://bucket/x/").uri == absolute_uri("s3://bucket/x")
    assert isinstance(open_store("gs://bucket/x"), ArrowStore)
    for uri in ("s3://bucket", "s3:///x"):
        with pytest.raises(UserError, match="names no folder in a bucket"):
            open_store(uri)


def config(root: Path, out: str, **options: object) -> KittiRawConfig:
    defaults = {"gaps": (1,), "min_matches": 50, "pairs_per_shard": 3, "workers": 0}
    return KittiRawConfig(root=str(root), out=out, **defaults | options)


def digests(store: Store) -> dict[str, str]:
    return {name: hashlib.sha256(store.read(name)).hexdigest() for name in sorted(store.sizes())}


@pytest.fixture(scope="module")
def reference(world_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("reference")
    preprocess(config(world_root, str(out)))
    return digests(open_store(out))


OUT = f"s3://{BUCKET}/drives/train"


@pytest.mark.usefixtures("bucket")
def test_s3_holds_the_same_bytes_as_a_folder(world_root: Path, reference: dict[str, str]) -> None:
    preprocess(config(world_root, OUT))
    assert digests(open_store(OUT)) == reference
    assert verify_dataset(OUT) == []
    dataset = pickle.loads(pickle.dumps(ShardDataset(OUT)))
    assert len(dataset) == 14
    assert dataset[13].matches_N4.shape[0] == dataset.matches_of(13)
    with pytest.raises(UserError, match=r"another configuration \(gaps differ\)"):
        preprocess(config(world_root, OUT, gaps=(2,)))
    manifest = preprocess(config(world_root, OUT, gaps=(2,), overwrite=True))
    assert manifest.totals.samples == 12
    assert verify_dataset(OUT) == []


@pytest.mark.usefixtures("bucket")
def test_a_rerun_asks_little_and_changes_nothing(
    world_root: Path, through_faults: Callable[..., Faults]
) -> None:
    preprocess(config(world_root, OUT))
    methods: list[str] = []

    def watch(_: int, method: str, path: str) -> None:
        methods.append(method)

    through_faults(watch)
    preprocess(config(world_root, OUT))
    assert set(methods) <= {"GET", "HEAD"}, "nothing is written or deleted"
    assert len(methods) < 15


@pytest.mark.parametrize("kind", ["500", "503", "cut", "lost"])
def test_injected_failures_change_no_byte(
    kind: str,
    world_root: Path,
    reference: dict[str, str],
    through_faults: Callable[..., Faults],
) -> None:
    rng = np.random.default_rng(3)
    faults = through_faults(lambda *_: kind if rng.random() < 0.3 else None)
    preprocess(config(world_root, OUT))
    assert len(faults.failed) >= 8
    assert digests(open_store(OUT)) == reference
    assert verify_dataset(OUT) == []


@pytest.mark.usefixtures("bucket")
def test_a_killed_driver_resumes_to_the_same_bytes(
    world_root: Path, reference: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UCN_LEASE_S", "3")
    command = [sys.executable, "-m", "ucn.pipeline.main", "preprocess", "kitti-raw"]
    command += ["--root", str(world_root), "--out", OUT, "--gaps", "1"]
    command += ["--min-matches", "50", "--pairs-per-shard", "3", "--workers", "0"]
    store = open_store(OUT)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as driver:
        while len(store.sizes()) < 4 and driver.poll() is None:
            time.sleep(0.01)
        driver.kill()
    sizes = store.sizes()
    assert sizes.pop(LOCK_NAME)
    assert "manifest.json" not in sizes
    assert 0 < len(sizes) < len(reference)
    for name in sizes:
        assert hashlib.sha256(store.read(name)).hexdigest() == reference[name]
    subprocess.run(command, check=True, capture_output=True)
    assert digests(store) == reference


@pytest.mark.usefixtures("bucket")
def test_damage_on_s3_is_named(world_root: Path) -> None:
    preprocess(config(world_root, OUT))
    store = open_store(OUT)
    data = bytearray(store.read("train-000001.tar"))
    data[3000] ^= 1
    write_bytes(store, "train-000001.tar", bytes(data))
    store.delete("train-000002.tar")
    store.delete("train-000003.json")
    faults = verify_dataset(OUT)
    assert "train-000001.tar: sha256 differs (damaged)" in faults
    assert "train-000002.tar: missing" in faults
    assert "train-000003.json: missing" in faults


@pytest.mark.usefixtures("bucket")
def test_two_writers_of_one_object_do_not_mix() -> None:
    store = open_store(OUT)
    write_bytes(store, "a.tar", b"same")
    write_bytes(store, "a.tar", b"same")
    write_bytes(store, "b.tar", b"old")
    with (
        pytest.raises(UserError, match="another run writes here"),
        store.publishing("b.tar") as path,
    ):
        path.write_bytes(b"mine")
        # The other writer comes between the look at the old object and the PUT.
        original = S3Store._head

        def late(self: S3Store, name: str) -> dict[str, Any]:
            found = original(self, name)
            boto3.client("s3").put_object(Bucket=BUCKET, Key="drives/train/b.tar", Body=b"theirs")
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(S3Store, "_head", late)
            store._publish("b.tar", path)  # type: ignore[attr-defined]


def test_what_the_user_must_mend_is_one_line_without_secrets(
    bucket: str, monkeypatch: pytest.MonkeyPatch, through_faults: Callable[..., Faults]
) -> None:
    def complaint(uri: str) -> str:
        with pytest.raises(UserError) as error:
            open_store(uri).prepare()
        assert "\n" not in str(error.value)
        assert "a-secret-that-must-not-show" not in str(error.value)
        return str(error.value)

    assert "no such bucket" in complaint("s3://nowhere/x")
    monkeypatch.setattr("ucn.storage.s3._ATTEMPTS", 2)
    through_faults(lambda *_: "503")
    assert "the server answers 503" in complaint(OUT)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "cannot be reached" in complaint(OUT)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "no credentials" in complaint(OUT)
