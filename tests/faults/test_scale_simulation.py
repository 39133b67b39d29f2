"""A hundred nodes make many shards and fail while they do: nothing is lost, little is redone.

The job is the real one, with its plan, window, retries, resume and manifest. Ray, the nodes and
the object store are simulated: an event a finished task, an hour of the cluster in some
milliseconds. Nodes die by chance and come back, taking their tasks with them, some of which had
published their tar but not its sidecar; the driver dies as well.
"""

import heapq
import itertools
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

import ucn.cluster.tasks
import ucn.preprocessing.job
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.shards.format import FinishedShard, Sidecar, sidecar_name, to_json
from ucn.preprocessing.shards.write import finished_shard
from ucn.preprocessing.sources.base import PairRef

NODES, SLOTS = 100, 16
TASK_S, SPREAD = 25.0, 0.4
MEAN_LIFE_S, REPAIR_S = 3 * 3600.0, 300.0


class DriverKilled(BaseException):
    """SIGKILL, as far as a simulation has it."""


class SimulatedStore:
    """An object store that counts its requests; a listing is one for each 1,000 objects."""

    uri = "sim://shards"

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, bytes] = {}
        self.requests = Counter[str]()
        self._scratch = folder / "file"

    def sizes(self) -> dict[str, int]:
        self.requests["LIST"] += len(self.files) // 1000 + 1
        return {name: len(data) for name, data in self.files.items()}

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        self.requests["GET"] += 1
        if name not in self.files:
            raise FileNotFoundError(name)
        return self.files[name]

    def put(self, name: str, data: bytes) -> None:
        self.requests["PUT"] += 1
        self.files[name] = data

    @contextmanager
    def publishing(self, name: str) -> Iterator[Path]:
        yield self._scratch
        self.put(name, self._scratch.read_bytes())

    def delete(self, name: str) -> None:
        self.requests["DELETE"] += 1
        self.files.pop(name, None)

    def prepare(self) -> None:
        pass


class SimulatedSource:
    """So many pairs that need no files."""

    def __init__(self, num_pairs: int) -> None:
        self._num_pairs = num_pairs

    def pairs(self) -> list[PairRef]:
        return [PairRef("drive", str(number), str(number + 1)) for number in range(self._num_pairs)]

    def key(self, pair: PairRef) -> str:
        return f"drive-{pair.frame0}-{pair.frame1}"

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        return []


class SimulatedConfig(PreprocessConfig):
    """One pair a shard."""

    source: Literal["simulated"] = "simulated"
    pairs_per_shard: int = 1
    shards: int

    def open_source(self) -> Any:
        return SimulatedSource(self.shards)


def write_shard(
    store: SimulatedStore, name: str, _: object, __: object, configuration: str, fingerprint: str
) -> FinishedShard:
    """Publish an empty tar, and the sidecar that commits it."""
    sidecar = Sidecar(
        shard=name,
        configuration=configuration,
        fingerprint=fingerprint,
        samples=1,
        matches=1000,
        bytes=0,
        sha256="",
        index=[],
        skipped=[],
    )
    data = to_json(sidecar).encode()
    store.put(name, b"")
    store.put(sidecar_name(name), data)
    return finished_shard(sidecar, data)


@dataclass
class Task:
    item: Any
    retries: int
    result: Any = None


@dataclass
class Node:
    """Its tasks are of one life; those of an earlier one are lost."""

    life: int = 0
    running: set[int] = field(default_factory=set)
    free: int = SLOTS


class SimulatedRay:
    """What the job knows of Ray, on nodes that die.

    Attributes:
        clock: simulated seconds.
        finished: tasks that gave a result, over all drivers.
        redone: tasks that were run again since their node died.
    """

    exceptions = SimpleNamespace(RayTaskError=RuntimeError)

    def __init__(self, store: SimulatedStore, seed: int, driver_dies_at: int) -> None:
        self._store = store
        self._rng = np.random.default_rng(seed)
        self._order = itertools.count()
        self._numbers = itertools.count()
        self.clock, self.busy_s = 0.0, 0.0
        self.finished = self.redone = self.deaths = self.most_waited_for = 0
        self._driver_dies_at = driver_dies_at
        self.start_driver()

    def start_driver(self) -> None:
        """A new driver knows nothing of the tasks of the last one, which end with it."""
        self._nodes = [Node() for _ in range(NODES)]
        self._tasks: dict[int, Task] = {}
        self._waiting: deque[int] = deque()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._done: set[int] = set()
        for node in self._nodes:
            self._after(self._rng.exponential(MEAN_LIFE_S), lambda node=node: self._die(node))

    def cluster_resources(self) -> dict[str, float]:
        """Of the nodes that are up."""
        return {"CPU": float(sum(node.free + len(node.running) for node in self._nodes))}

    def remote(self, num_cpus: int, max_retries: int) -> Callable[[Any], Any]:
        def submit(function: Callable[[Any], Any], item: Any) -> int:
            number = next(self._numbers)
            self._function = function
            self._tasks[number] = Task(item, max_retries)
            self._waiting.append(number)
            return number

        return lambda function: SimpleNamespace(remote=lambda item: submit(function, item))

    def wait(
        self, references: Sequence[int], num_returns: int, timeout: float
    ) -> tuple[list[int], list[int]]:
        self.most_waited_for = max(self.most_waited_for, len(references))
        while not self._done:
            self._start_tasks()
            self.clock, _, happen = heapq.heappop(self._events)
            happen()
        return [next(iter(self._done))], []

    def get(self, number: int) -> Any:
        self._done.remove(number)
        self.finished += 1
        if self.finished == self._driver_dies_at:
            raise DriverKilled
        return self._tasks.pop(number).result

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.clock + seconds, next(self._order), happen))

    def _start_tasks(self) -> None:
        for node in self._nodes if self._waiting else ():
            while node.free and self._waiting:
                number = self._waiting.popleft()
                node.free -= 1
                node.running.add(number)
                seconds = TASK_S * self._rng.lognormal(0, SPREAD)
                self.busy_s += seconds
                self._after(seconds, lambda n=node, t=number, life=node.life: self._end(n, t, life))

    def _end(self, node: Node, number: int, life: int) -> None:
        if node.life != life:
            return
        node.running.remove(number)
        node.free += 1
        task = self._tasks[number]
        task.result = self._function(task.item)
        self._done.add(number)

    def _die(self, node: Node) -> None:
        self.deaths += 1
        for number in sorted(node.running):
            task = self._tasks[number]
            assert task.retries > 0, "a task was unlucky more often than the job allows"
            task.retries -= 1
            self.redone += 1
            self._waiting.appendleft(number)
            if self._rng.random() < 0.3:
                self._store.put(task.item.plan.name, b"")
        node.running.clear()
        node.life += 1
        node.free = 0
        self._after(REPAIR_S, lambda: self._repair(node))

    def _repair(self, node: Node) -> None:
        node.free = SLOTS
        self._after(self._rng.exponential(MEAN_LIFE_S), lambda: self._die(node))


@pytest.mark.parametrize("shards", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_many_shards_over_100_nodes(
    shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SimulatedStore(tmp_path)
    ray = SimulatedRay(store, seed=0, driver_dies_at=shards * 11 // 20)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(ucn.cluster.tasks, "ray_session", lambda _: nullcontext())
    monkeypatch.setattr(ucn.preprocessing.job, "open_store", lambda _: store)
    monkeypatch.setattr(ucn.preprocessing.job, "write_shard", write_shard)
    config = SimulatedConfig(out="sim://shards", shards=shards)
    with pytest.raises(DriverKilled):
        preprocess(config)
    ray.start_driver()
    manifest = preprocess(config)

    assert manifest.totals.shards == manifest.totals.samples == shards
    assert [shard.name for shard in manifest.shards] == sorted(
        name for name in store.files if name.endswith(".tar")
    )
    assert ray.deaths > shards / 20_000
    assert ray.redone > shards / 5_000
    # A dead driver loses what ran, a dead node what it ran: never what was finished.
    written_twice = ray.finished + 1 - shards
    assert written_twice <= 2
    # The driver waits for a bounded number of tasks, whatever the number of shards.
    assert ray.most_waited_for <= 2 * NODES * SLOTS
    # Little of the cluster's time is lost to nodes under repair and dead tasks. The slots are not
    # all in use while the last tasks end.
    assert ray.busy_s / ((ray.clock - 2 * TASK_S) * NODES * SLOTS) > 0.9
    # Two PUTs a shard; a driver that comes back reads each sidecar once.
    assert store.requests["PUT"] <= 2.05 * shards
    assert store.requests["GET"] <= shards
    finished = dict(store.requests)

    # A rerun after success costs one listing and the manifest.
    assert preprocess(config) == manifest
    assert store.requests["GET"] == finished["GET"] + 1
    assert store.requests["PUT"] == finished["PUT"]
