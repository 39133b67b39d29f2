"""SIGKILL at random moments: of a worker, the driver, the head of the cluster, another node.

Each time the same command is given again, as a user would, until it succeeds; nothing is lost.
"""

import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from safetensors.torch import load_file

from tests.faults.drives import digests, drives_config, preprocess_words
from tests.faults.machines import Machines, family, kill, two_machines
from tests.faults.noise_training import CHECKPOINT_EVERY, EPOCH, noise_config, undisturbed
from tests.faults.observer import Observer, check_each_sample_once_an_epoch, surviving
from tests.tell import tell
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.storage.lock import LOCK_NAME
from ucn.training.model import WEIGHTS
from ucn.training.run_state import read_run_state

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_thread")]

VICTIMS = ("worker", "driver", "head", "node")
ROOT = Path(__file__).parents[2]
UCN = (sys.executable, "-m", "ucn.pipeline.main")
PREPROCESSINGS = range(20)
TRAININGS = (0, 1, 2, 5, 6)
"""Seeds that have every victim among them."""
DRIVES = {"gaps": (1, 2), "min_matches": 10, "pairs_per_shard": 2, "workers": 2}
SHARDS = 13
STEPS = 2 * EPOCH
STARTS = 4
"""A command that fails so often without being disturbed is a fault."""
PATIENCE_S = 600.0


@dataclass(frozen=True)
class Plan:
    """What a run is to suffer.

    Attributes:
        victim: of `VICTIMS`.
        progress: parts of the work that are done by then.
        delay_s: from that moment on.
    """

    victim: str
    progress: int
    delay_s: float


def plan_of(seed: int, parts: int) -> Plan:
    rng = random.Random(seed)
    return Plan(rng.choice(VICTIMS), rng.randrange(parts), rng.uniform(0, 0.5))


class Run:
    """One command on two machines that is disturbed once.

    Attributes:
        starts: how often the command was given.
        killed_after_s: from the first start to the kill.
    """

    def __init__(self, machines: Machines, command: list[str], log: Path) -> None:
        self._machines, self._command, self._log = machines, command, log
        self.starts = 0
        self.killed_after_s = 0.0

    def suffer(
        self,
        plan: Plan,
        progress: Callable[[], int],
        released: Callable[[], None] = lambda: None,
    ) -> bool:
        """Give the command, kill the victim at its moment, and give it again until it succeeds.

        Args:
            progress: counts the parts that are done.
            released: called when the victim is dead.

        Returns:
            False where the command succeeded before the victim could be killed.
        """
        begun = time.monotonic()
        with self._driver() as driver:
            if not self._reaches(lambda: progress() >= plan.progress and self._at_work(), driver):
                return False
            time.sleep(plan.delay_s)
            if driver.poll() == 0 or not self._strike(plan.victim, driver):
                return False
            self.killed_after_s = time.monotonic() - begun
            released()
            code = driver.wait(PATIENCE_S)
        while code != 0:
            assert self.starts < STARTS, self._log.read_text()
            with self._driver() as driver:
                code = driver.wait(PATIENCE_S)
        return True

    def _driver(self) -> "subprocess.Popen[bytes]":
        self._machines.start_what_is_down()
        self.starts += 1
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command, env=self._environment(), cwd=ROOT, stdout=log, stderr=log
            )

    def _environment(self) -> dict[str, str]:
        return self._machines.environment | {
            "PYTHONPATH": str(ROOT),
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "3",
        }

    def _at_work(self) -> bool:
        return bool(self._machines.workers())

    def _reaches(self, reached: Callable[[], bool], driver: "subprocess.Popen[bytes]") -> bool:
        """Wait for a moment of a run; False where the run succeeds before it comes."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            code = driver.poll()
            assert code in (None, 0), self._log.read_text()
            if code == 0:
                return False
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)
        return True

    def _strike(self, victim: str, driver: "subprocess.Popen[bytes]") -> bool:
        if victim == "worker":
            if not self._reaches(self._at_work, driver):
                return False
            kill(self._machines.workers()[:1])
        elif victim == "driver":
            kill(family(psutil.Process(driver.pid)))
        elif victim == "head":
            self._machines.kill_head()
        else:
            self._machines.kill_node()
        return True


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with two_machines() as machines:
        yield machines


@pytest.fixture(scope="module")
def reference(world_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of an undisturbed run in one process."""
    out = tmp_path_factory.mktemp("reference")
    preprocess(drives_config(world_root, out, **DRIVES | {"workers": 0}))
    return digests(out)


@pytest.fixture
def kill_preprocessing(
    machines: Machines, world_root: Path, tmp_path: Path, reference: dict[str, str]
) -> Callable[[str, Plan], None]:
    """Disturb a preprocessing, check that nothing is lost, and tell."""

    def disturb(name: str, plan: Plan) -> None:
        out = tmp_path / name.replace(" ", "-")
        words = preprocess_words(drives_config(world_root, out, **DRIVES))
        # A fast machine may be done before the kill: then it is struck earlier.
        for progress in range(plan.progress, -1, -3):
            shutil.rmtree(out, ignore_errors=True)
            run = Run(machines, [*UCN, *words], tmp_path / f"{out.name}.txt")
            earlier = replace(plan, progress=progress)
            if run.suffer(earlier, lambda: sum(1 for _ in out.glob("train-*.json"))):
                break
        else:
            raise AssertionError(f"never at work when {plan} was due")
        lost = reference.items() - digests(out).items()
        more = digests(out).keys() - reference.keys()
        pairs = len(ShardDataset(out))
        tell(
            f"{name}: {plan.victim} killed after {run.killed_after_s:.1f} s "
            f"({progress} of {SHARDS} shards); {run.starts} starts; {pairs} pairs, "
            f"{len(lost)} files lost, {len(more)} left over"
        )
        assert not lost
        assert not more
        assert not (out / LOCK_NAME).exists()
        assert verify_dataset(out) == []

    return disturb


def history(uri: str, output: str) -> list[tuple[int, float]]:
    """Steps and losses of a run, as MLflow has them."""
    from mlflow import MlflowClient

    record = read_run_state(output)
    assert record is not None
    points = MlflowClient(tracking_uri=uri).get_metric_history(record.run_id, "loss")
    return [(point.step, point.value) for point in points]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_preprocessing_at_random_moments(kill_preprocessing: Callable[[str, Plan], None]) -> None:
    plans = {seed: plan_of(seed, SHARDS - 3) for seed in PREPROCESSINGS}
    for seed, plan in plans.items():
        kill_preprocessing(f"seed {seed}", plan)
    victims = Counter(plan.victim for plan in plans.values())
    assert set(victims) == set(VICTIMS)
    killed = ", ".join(f"{name} {victims[name]}" for name in VICTIMS)
    tell(f"preprocessing: {len(plans)} runs, {killed} times killed; 0 files lost")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_training_at_random_moments(machines: Machines, tmp_path: Path) -> None:
    weights, losses = undisturbed(noise_config(tmp_path, STEPS))
    for seed in TRAININGS:
        plan = plan_of(seed, STEPS - CHECKPOINT_EVERY)
        config = noise_config(tmp_path, STEPS, output=tmp_path / f"run-{seed}")
        file = tmp_path / f"run-{seed}.yaml"
        file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
        observer = Observer(tmp_path / f"notes-{seed}")
        # So that there is something to disturb, however late it comes.
        observer.allow(plan.progress + CHECKPOINT_EVERY)
        script = str(Path(__file__).with_name("observed_training.py"))
        command = [sys.executable, script, str(observer.folder), "train", "--config", str(file)]
        run = Run(machines, command, tmp_path / f"run-{seed}.txt")
        assert run.suffer(
            plan,
            lambda seen=observer: max((note.step + 1 for note in seen.notes()), default=0),
            lambda seen=observer: seen.allow(STEPS),
        )

        steps = surviving(observer.notes(), STEPS)
        again = len(observer.notes()) - sum(map(len, steps))
        check_each_sample_once_an_epoch(config, steps)
        found = load_file(Path(config.output) / "model" / WEIGHTS)
        for name, expected in weights.items():
            np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)
        logged = history(config.tracking.uri, config.output)
        assert [step for step, _ in logged] == list(range(STEPS))
        np.testing.assert_allclose([loss for _, loss in logged], losses, rtol=1e-5)
        assert not list(Path(config.output).rglob(".tmp-*"))
        workers = [count for count, _ in groupby(map(len, steps))]
        tell(
            f"seed {seed}: {plan.victim} killed after {run.killed_after_s:.1f} s "
            f"({plan.progress} of {STEPS} steps); {run.starts} starts, workers {workers}, "
            f"{again} pieces of work done again; {STEPS} losses in MLflow, 0 steps or samples lost"
        )
    tell(f"training: {len(TRAININGS)} runs; 0 steps, samples or losses lost, weights equal to 1e-5")
