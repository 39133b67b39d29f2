"""What the optimiser's steps of a distributed run are given: noted by the workers, then counted.

Of a step that was taken again after a loss, the last time counts.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ucn.storage.files import write_json
from ucn.training.config import TrainConfig
from ucn.training.data.inputs import open_datasets, training_sampler
from ucn.training.loop.state import Metrics


@dataclass(frozen=True)
class Note:
    """A worker has done its part of a step."""

    time: float
    step: int
    workers: int
    rank: int
    pid: int
    keys: list[str]


class Observer:
    """Takes notes of what steps are given, and holds the workers at steps not allowed yet.

    Args:
        folder: where all nodes write and read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def allow(self, steps: int) -> None:
        write_json(self.folder / "allowed.json", steps)

    def notes(self) -> list[Note]:
        """All notes, in the order of time."""
        lines = [line for path in self.folder.glob("*.txt") for line in path.open()]
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        return sorted((Note(**values) for values in whole), key=lambda note: note.time)

    def find(self, workers: int, step: int = 0, since: float = 0.0) -> list[Note]:
        """One note of each of so many workers, at or after a step and a time; none if one lacks."""
        found = {
            note.rank: note
            for note in self.notes()
            if note.workers == workers and note.step >= step and note.time >= since
        }
        return [found[rank] for rank in range(workers)] if len(found) == workers else []

    def wait_for(self, workers: int, step: int, since: float = 0.0) -> list[Note]:
        deadline = time.monotonic() + 120
        while not (found := self.find(workers, step, since)):
            assert time.monotonic() < deadline, f"{workers} workers do not get to step {step}"
            time.sleep(0.1)
        return found

    def watch(self, work: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
        """Observe the workers' function. The result travels whole: nodes do not have this file."""
        folder = self.folder

        def watched(options: dict[str, Any]) -> None:
            from ray.train import get_context

            from ucn.training.loop.step import Stepper

            context, take_step = get_context(), Stepper.step
            who = {
                "workers": context.get_world_size(),
                "rank": context.get_world_rank(),
                "pid": os.getpid(),
            }

            def step(self: Stepper, number: int, groups: Any) -> Metrics:
                while number >= json.loads((folder / "allowed.json").read_text()):
                    time.sleep(0.02)
                metrics = take_step(self, number, groups)
                keys = [item.key for group in groups for item in group]
                note = {"time": time.time(), "step": number, "keys": keys} | who
                with (folder / f"{os.getpid()}.txt").open("a") as file:
                    file.write(json.dumps(note) + "\n")
                return metrics

            Stepper.step = step  # type: ignore[method-assign]
            work(options)

        return watched


def surviving(notes: list[Note], steps: int) -> list[list[Note]]:
    """For each step the notes of those workers whose work is in the final weights."""
    found = []
    for step in range(steps):
        of_step = [note for note in notes if note.step == step]
        assert of_step, f"step {step} was never taken"
        last = {n.rank: n for n in of_step if n.workers == of_step[-1].workers}
        assert sorted(last) == list(range(of_step[-1].workers)), f"step {step}"
        found.append([last[rank] for rank in sorted(last)])
    return found


def check_each_sample_once_an_epoch(config: TrainConfig, steps: list[list[Note]]) -> None:
    """Steps were given what the sampler plans, and every epoch has every sample once.

    Args:
        steps: from `surviving`.
    """
    data, _ = open_datasets(config)
    sampler = training_sampler(config, data)
    given = [[key for note in notes for key in note.keys] for notes in steps]
    for step, keys in enumerate(given):
        planned = [data[draw.sample].key for draw in sampler.batch(step)]
        assert sorted(keys) == sorted(planned), f"step {step}"
    epoch = len(data) // config.batch_size
    for start in range(0, len(steps) // epoch * epoch, epoch):
        count = Counter(key for keys in given[start : start + epoch] for key in keys)
        assert len(count) == len(data), f"epoch from step {start}"
        assert set(count.values()) == {1}, f"epoch from step {start}"
