"""The demo's configuration on a cluster of several hosts gives what it gives on one machine.

Shards and model are the same bytes, and MLflow has the same losses and scores. The hosts
(`hosts.py`) are two of Ray, one of MLflow, one of PostgreSQL and one of an S3 server, with nothing
in common but the installed software and a network disk for raw data and checkpoints.

    pytest -m long -s tests/end_to_end
    UCN_WHOLE_DEMO=1 pytest -m long -s tests/end_to_end    # the demo as it is, not in small
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end import hosts, services
from tests.end_to_end.hosts import SHARED, Host
from tests.end_to_end.observed import Metrics, metrics
from tests.tell import tell

DEMO = Path(__file__).parents[2] / "configs" / "demo.yaml"
BUCKET = "ucn"
SHARDS = f"s3://{BUCKET}/demo"
WORLDS = ("train", "val", "test")
SPLITS = (*WORLDS, "motorcycle")
MODEL = "train/model/model.safetensors"
CPUS = 1
"""Of each node: two tasks at once are on two nodes."""
SHORT = (
    *(f"shards.{split}.frames=10" for split in WORLDS),
    *(f"shards.{split}.width=414" for split in WORLDS),
    *(f"shards.{split}.pairs_per_shard=4" for split in WORLDS),
    "shards.train.worlds=2",
    *("train.steps=12", "train.schedule.warmup_steps=4", "train.points=128"),
    *("train.checkpoint_every=6", "train.validate_every=6", "train.data.validation_pairs=4"),
    *("evaluate.pairs=2", "evaluate.points=200", "evaluate.pose.estimators=[opencv-magsac]"),
)
"""The demo in small."""

pytestmark = [pytest.mark.long, pytest.mark.ray, pytest.mark.timeout(5400)]


@dataclass(frozen=True)
class Cluster:
    """Hosts that serve.

    Attributes:
        head: of Ray; drivers run here.
        node: the other one of Ray.
        store: the S3 server.
        records: MLflow.
    """

    head: Host
    node: Host
    store: Host
    records: Host

    @property
    def tracking(self) -> str:
        """Tracking URI."""
        return f"http://{self.records.name}:{services.MLFLOW_PORT}"

    def observed(self, what: str, uri: str) -> str:
        """What ``observed.py`` prints on a host of the cluster."""
        script = Path(__file__).with_name("observed.py")
        return self.head.run("python", str(script), what, uri)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if lacks := hosts.missing() or services.missing():
        pytest.skip(lacks)
    folder = tmp_path_factory.mktemp("network")
    names = ("head", "node", "object-store", "mlflow", "postgresql")
    with hosts.network(names, folder) as network:
        head, node, store, records, database = network.values()
        services.make_secrets(folder / "secrets")
        services.start_postgresql(database)
        services.start_object_store(store, ("mlflow", BUCKET))
        services.start_mlflow(records)
        for host in (head, node):
            host.environment.update(services.s3_environment(store.name))
        services.start_ray(head, [node], CPUS)
        yield Cluster(head, node, store, records)


@pytest.fixture(scope="module")
def settings() -> tuple[str, ...]:
    """Of both runs."""
    return () if os.environ.get("UCN_WHOLE_DEMO") else SHORT


@pytest.fixture(scope="module")
def laptop(settings: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on this machine alone."""
    folder = tmp_path_factory.mktemp("laptop")
    roots = [f"shards.{split}.root={folder}/raw" for split in WORLDS]
    words = ["run", "--config", str(DEMO), f"out={folder}/demo", *roots, *settings]
    others = ("RAY_", "AWS_", "OMP_", "MLFLOW_")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ucn")), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={name: text for name, text in os.environ.items() if not name.startswith(others)},
    )
    assert done.returncode == 0, done.stderr
    return folder / "demo"


@pytest.fixture(scope="module")
def words(cluster: Cluster, settings: tuple[str, ...]) -> tuple[str, ...]:
    """The demo on the cluster: nothing but addresses is another."""
    return (
        *("run", "--config", str(DEMO), f"out={SHARED}/demo"),
        *(f"shards.{split}.root={SHARED}/raw" for split in WORLDS),
        *(f"shards.{split}.out={SHARDS}/{split}" for split in SPLITS),
        f"tracking.uri={cluster.tracking}",
        *settings,
    )


@pytest.fixture(scope="module")
def finished(cluster: Cluster, words: tuple[str, ...]) -> Cluster:
    """The cluster after the run."""
    cluster.head.run(
        "ucn", *words, timeout_s=5000, environment=services.driver_environment(cluster.head)
    )
    return cluster


def test_shards_are_the_same_bytes(finished: Cluster, laptop: Path) -> None:
    for split in SPLITS:
        local = {path.name: sha256(path) for path in (laptop / "shards" / split).iterdir()}
        remote = json.loads(finished.observed("objects", f"{SHARDS}/{split}"))
        assert remote == local
        tell(f"{split}: {len(local)} files, all of the same bytes")


def test_both_nodes_made_shards(finished: Cluster) -> None:
    """By the addresses that the store was asked from."""
    requests = (finished.store.folder / "requests.log").read_text()
    put = re.findall(rf'^(\S+) .*"PUT /{BUCKET}/demo/\S+\.tar', requests, re.MULTILINE)
    tell(f"tars by node: {dict(Counter(put))}")
    assert set(put) == {finished.head.address, finished.node.address}


def test_losses_and_scores_are_the_same(finished: Cluster, laptop: Path) -> None:
    local = without_times(metrics(f"sqlite:///{laptop / 'mlflow.db'}"))
    remote = without_times(json.loads(finished.observed("metrics", finished.tracking)))
    (train,) = (run for name, run in local.items() if name.startswith("train"))
    assert {"loss", "validation/pck/5"} <= set(train)
    assert remote == local
    points = sum(len(history) for run in local.values() for history in run.values())
    steps = len(train["loss"])
    tell(f"{points} values in MLflow, {steps} losses among them, all equal to the last bit")


def test_the_model_is_the_same_bytes(finished: Cluster, laptop: Path) -> None:
    expected = sha256(laptop / MODEL)
    assert finished.head.run("sha256sum", f"{SHARED}/demo/{MODEL}").split()[0] == expected
    # MLflow keeps it in the store.
    artifacts = json.loads(finished.observed("objects", "s3://mlflow/artifacts"))
    found = {
        name: digest for name, digest in artifacts.items() if name.endswith("model.safetensors")
    }
    assert list(found.values()) == [expected]
    tell(f"{len(artifacts)} artifacts, the model among them")


def test_the_same_run_as_a_job_finds_all_done(finished: Cluster, words: tuple[str, ...]) -> None:
    log = finished.store.folder / "requests.log"
    before = log.read_text().count('"PUT ')
    address = f"http://127.0.0.1:{services.DASHBOARD_PORT}"
    submit = ("ucn", "submit", words[0], "--address", address, *words[1:])
    printed = finished.head.run(*submit, environment={"RAY_AUTH_MODE": "token"}, timeout_s=600)
    assert "dense DAISY" in printed
    assert f"MLflow: {finished.tracking}/#/experiments/" in printed
    assert log.read_text().count('"PUT ') == before


def test_the_doctor_finds_the_cluster_in_order(finished: Cluster, words: tuple[str, ...]) -> None:
    for host in (finished.head, finished.node):
        environment = services.driver_environment(finished.head)
        told = host.run("ucn", "doctor", *words[1:], environment=environment)
        assert re.search(r"^ok +ray address .*, joined$", told, re.MULTILINE)
        assert re.search(r"^ok +ray nodes +2, with 2 CPUs", told, re.MULTILINE)
        assert re.search(rf"^ok +mlflow +{finished.tracking} answers", told, re.MULTILINE)
        assert re.search(rf"^ok +shards.train.out +{SHARDS}/train is writable", told, re.MULTILINE)
        assert not re.search(r"^problem", told, re.MULTILINE)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_times(runs: Metrics) -> dict[str, dict[str, list[list[float]]]]:
    """Without how fast it went; as JSON would have it."""
    return {
        run: {
            name: [list(point) for point in history]
            for name, history in found.items()
            if "second" not in name and not name.startswith("system/")
        }
        for run, found in runs.items()
    }
