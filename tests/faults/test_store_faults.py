"""An object store that fails in one way at a time, and one that denies access in mid-job.

All ways at once, and what each request makes of them: tests/storage/test_s3_faults.py. What
those have alone is a long test here, for the counts.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.drives import digests, drives_config, preprocess_words, store_digests
from tests.storage.s3_server import CUT, HALF, LOST, SHORT, SLOW, STALLED, Server
from tests.tell import tell
from ucn.pipeline.main import main
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.storage.lock import LOCK_NAME
from ucn.storage.stores import open_store

OUT = "s3://faults/drives/train"
RATE = 0.4
AT_ONCE = ("500", "503", CUT, LOST, SHORT)


@pytest.fixture
def server(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with one empty bucket; waits are what they are to each other, and short."""
    monkeypatch.setattr("ucn.storage.s3._FIRST_WAIT_S", 0.001)
    monkeypatch.setattr("ucn.storage.s3._LONGEST_SILENCE_S", 0.5)
    with s3_server.bucket("faults", monkeypatch):
        yield s3_server


@pytest.fixture(scope="module")
def reference(world_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("reference")
    preprocess(drives_config(world_root, out))
    return digests(out)


@pytest.mark.parametrize(
    "kind",
    [SLOW, STALLED, HALF, *(pytest.param(kind, marks=pytest.mark.long) for kind in AT_ONCE)],
)
def test_requests_that_fail_in_one_way(
    server: Server, world_root: Path, reference: dict[str, str], kind: str
) -> None:
    # A server that never answers in time takes its time.
    happened = server.fail_some(RATE if kind != STALLED else 0.1, [kind], seed=5)
    manifest = preprocess(drives_config(world_root, OUT))
    faults = verify_dataset(OUT)
    dataset = ShardDataset(OUT)
    keys = [dataset[index].key for index in range(len(dataset))]
    asked, failed = len(server.asked), len(happened)
    server.fault = lambda method, path: None
    lost = reference.items() - store_digests(open_store(OUT)).items()
    tell(f"{kind}: {asked} requests, {failed} of them so; {len(lost)} of {len(reference)} lost")
    assert failed > 0
    assert keys == dataset.keys
    assert len(keys) == manifest.totals.samples
    assert not faults
    assert not lost


@pytest.mark.parametrize(
    "after", [6, pytest.param(1, marks=pytest.mark.long), pytest.param(9, marks=pytest.mark.long)]
)
def test_access_denied_in_the_middle_and_granted_again(
    server: Server,
    world_root: Path,
    reference: dict[str, str],
    after: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.fault = lambda method, path: "403" if len(server.asked) >= after else None
    words = preprocess_words(drives_config(world_root, OUT))
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"ucn: {OUT}")
    assert said.endswith(": access denied; check the credentials and the bucket's policy")
    assert "secret" not in said
    server.fault = lambda method, path: None
    # What is there is whole. The lease could not be taken back: it would expire by itself.
    found = store_digests(open_store(OUT))
    assert found.items() < reference.items()
    open_store(OUT).delete(LOCK_NAME)
    assert main(words) == 0
    assert store_digests(open_store(OUT)) == reference
    tell(f"access denied from request {after} on: {len(found)} of {len(reference)} there; 0 lost")
