"""Shards on a server of the S3 protocol that fails: what is asked, retried, refused and seen."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.storage.s3_server import CUT, LOST, SHORT, Server
from ucn.errors import UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.format import digest, parse_sidecar, sidecar_name
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.shards.write import write_manifest, write_shard
from ucn.preprocessing.sources.kitti.raw import KittiRawConfig
from ucn.storage.stores import Store, open_store, write_bytes

OUT = "s3://pairs/drives/train"


@pytest.fixture
def server(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with one empty bucket, and the environment that leads to it."""
    # Waits stay what they are to each other, and short.
    monkeypatch.setattr("ucn.storage.s3._FIRST_WAIT_S", 0.001)
    with s3_server.bucket("pairs", monkeypatch):
        yield s3_server


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


@pytest.mark.parametrize("seed", [1, 2])
def test_a_third_of_all_requests_fail_in_every_way_and_no_byte_changes(
    server: Server, world_root: Path, reference: dict[str, str], seed: int
) -> None:
    happened = server.fail_some(0.3, ["409", "500", "503", CUT, LOST, SHORT], seed)
    preprocess(config(world_root, OUT))
    assert verify_dataset(OUT) == []
    dataset = ShardDataset(OUT)
    with ThreadPoolExecutor(4) as pool:
        keys = [sample.key for sample in pool.map(dataset.__getitem__, range(len(dataset)))]
    assert keys == dataset.keys
    assert digests(open_store(OUT)) == reference
    assert len(set(happened)) >= 5


@pytest.mark.ray
def test_ray_workers_write_the_same_bytes(
    server: Server, world_root: Path, reference: dict[str, str]
) -> None:
    server.fail_some(0.1, ["500", LOST])
    preprocess(config(world_root, OUT, workers=2))
    server.fault = lambda method, path: None
    assert digests(open_store(OUT)) == reference
    assert verify_dataset(OUT, workers=2) == []


def test_an_object_is_one_request(server: Server) -> None:
    write_bytes(open_store(OUT), "a.tar", b"data")
    assert server.asked == [("PUT", "/pairs/drives/train/a.tar")]


def test_a_lost_answer_is_recognised(server: Server) -> None:
    server.fault = lambda method, path: LOST if not server.asked else None
    write_bytes(open_store(OUT), "a.tar", b"data")
    assert [method for method, _ in server.asked] == ["PUT", "PUT", "HEAD"]
    assert open_store(OUT).read("a.tar") == b"data"


def test_an_object_is_replaced_at_once(server: Server) -> None:
    """No reader finds it missing, and a lost answer is recognised."""
    write_bytes(open_store(OUT), "a.json", b"old")
    server.asked.clear()
    server.fault = lambda method, path: LOST if len(server.asked) == 2 else None
    write_bytes(open_store(OUT), "a.json", b"new")
    assert [method for method, _ in server.asked] == ["PUT", "HEAD", "PUT", "PUT", "HEAD"]
    assert open_store(OUT).read("a.json") == b"new"


def test_a_rerun_is_a_listing_and_the_manifest(server: Server, world_root: Path) -> None:
    preprocess(config(world_root, OUT))
    server.asked.clear()
    preprocess(config(world_root, OUT))
    assert server.asked == [("GET", "/pairs"), ("GET", "/pairs/drives/train/manifest.json")]


def test_a_sample_is_one_request(server: Server, make_sample: Callable[..., Sample]) -> None:
    store = open_store(OUT)
    shard = write_shard(store, "train-000000.tar", [make_sample(0)], "grey-png", "c", "f")
    write_manifest(store, [shard], {})
    dataset = ShardDataset(OUT)
    server.asked.clear()
    np.testing.assert_array_equal(dataset[0].matches_N4, make_sample(0).matches_N4)
    assert server.asked == [("GET", "/pairs/drives/train/train-000000.tar")]


def test_no_reader_ever_sees_a_sidecar_of_another_tar(
    server: Server, make_sample: Callable[..., Sample]
) -> None:
    name = "train-000000.tar"
    store = open_store(OUT)
    states: list[tuple[bool, bool]] = []

    def write(index: int) -> None:
        write_shard(store, name, [make_sample(index)], "grey-png", "c", digest(index))

    def look(method: str, path: str) -> None:
        """What lies there before each request that changes something."""
        if method in ("PUT", "DELETE") and not looking.locked():
            with looking:
                sizes = store.sizes()
                states.append((name in sizes, sidecar_name(name) in sizes))
                if sidecar_name(name) in sizes:
                    sidecar = parse_sidecar(store, name, store.read(sidecar_name(name)))
                    tar = hashlib.sha256(store.read(name)).hexdigest()
                    assert sidecar.sha256 == tar

    looking = threading.Lock()
    write(1)
    server.fault = look
    write(2)
    assert states[0] == (True, True)
    assert states[-1] == (True, False)
    assert (False, True) not in states


def test_listings_of_many_pages_survive_failures(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    store = open_store(OUT)
    for number in range(20):
        write_bytes(store, f"train-{number:06d}.tar", bytes(number))
    server.fail_some(0.4, ["503", CUT, SHORT])
    assert store.sizes() == {f"train-{number:06d}.tar": number for number in range(20)}


def test_reading_past_the_end_gives_less_as_in_a_folder(server: Server, tmp_path: Path) -> None:
    for store in (open_store(OUT), open_store(tmp_path)):
        write_bytes(store, "a", b"12345")
        assert store.read("a", 3, 10) == b"45"
        assert store.read("a", 5, 10) == b""
        assert store.read("a", 9, 1) == b""


def test_a_file_that_one_put_cannot_hold_is_refused(server: Server) -> None:
    with (
        pytest.raises(UserError, match=r"a\.tar: 5\.0 GiB, .*; lower --pairs-per-shard"),
        open_store(OUT).publishing("a.tar") as path,
        path.open("wb") as file,
    ):
        file.truncate(5 * 2**30 + 1)
    assert server.asked == []


@pytest.mark.parametrize(
    ("kind", "told", "asked"),
    [
        ("403", "access denied; check the credentials", 1),
        ("501", "the server has no conditional PUT", 1),
        ("skewed", "this machine's clock is wrong; set it", 1),
        ("503", "the server answers SlowDown; try again later", 10),
        (CUT, r"cannot be reached \(ConnectionClosedError\)", 10),
    ],
)
def test_what_the_user_must_mend(
    server: Server, monkeypatch: pytest.MonkeyPatch, kind: str, told: str, asked: int
) -> None:
    monkeypatch.setattr("ucn.storage.s3._LONGEST_WAIT_S", 0.001)
    server.fault = lambda method, path: kind
    with pytest.raises(UserError, match=rf"^{OUT}/a\.tar: {told}") as error:
        write_bytes(open_store(OUT), "a.tar", b"data")
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AWS_ENDPOINT_URL", "nonsense", "check the AWS settings"),
        ("AWS_PROFILE", "nobody", "check the AWS settings"),
    ],
)
def test_settings_that_are_none(
    server: Server, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=told) as error:
        open_store(OUT).sizes()
    assert value in str(error.value)
    assert "\n" not in str(error.value)


def test_secrets_in_a_uri_are_refused_unseen() -> None:
    for uri in ("s3://key:secret@pairs/x", "gs://pairs/x?access_token=secret"):
        with pytest.raises(UserError, match="URI with credentials or options") as error:
            open_store(uri)
        assert "secret" not in str(error.value)


def test_a_bucket_of_an_impossible_name(server: Server) -> None:
    with pytest.raises(UserError, match="check the AWS settings") as error:
        open_store("s3://Not A Bucket/x").sizes()
    assert "\n" not in str(error.value)
