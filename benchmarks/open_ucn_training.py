"""Training steps of Open-UCN's own trainer, from a checkout of it, beside ours: pairs a second.

Both train Open-UCN's default network (``ResUNetBN2D2``, 64-D, random weights, SGD at its settings)
with the hardest contrastive loss on the same pairs, side by side in one run, in turns: shifted
crops of the photos in its ``imgs``, its 2 pairs in a step and 1,024 correspondences of a pair. Its
configuration has no image size: it takes photos as they are. Loading and augmentation are left out;
the pairs are at hand.

Its step is its ``_train_epoch`` of one iteration, unmodified: both forward passes, negatives out of
40,000 random positions of each image, backward pass, optimiser. Ours searches every position. The
trainer is told to use the CPU, and its ``find_nn_gpu`` is timed; our miner likewise.
"""

import argparse
import importlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
import torch

from ucn.training.config import TrainConfig
from ucn.training.data.collate import collate
from ucn.training.data.pairs import Item
from ucn.training.loop.state import initial_state
from ucn.training.loop.step import Stepper
from ucn.training.mining.hard import mine_hard

SHIFT = 16
NOISE = 4.0
STEPS_TO_PEAK = 2  # the optimiser's moments come with the first

Settings = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open-ucn", type=Path, required=True, help="a checkout of Open-UCN")
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sys.path.insert(0, str(options.open_ucn))
    settings = their_settings()
    if options.peak is not None:
        pairs = make_pairs(options.open_ucn, settings, options.width, options.height)
        print(peak_mib(TRAININGS[options.peak](settings, pairs).step))
        return
    print(
        f"{options.width}x{options.height}, {settings['batch_size']} pairs a step, "
        f"{settings['num_pos_per_batch']:,} correspondences a pair, threads: {options.threads}\n"
    )
    # First: a process counts what its parent held when it began.
    peaks = [peak_of(name) for name in TRAININGS]
    pairs = make_pairs(options.open_ucn, settings, options.width, options.height)
    trainings = {name: make(settings, pairs) for name, make in TRAININGS.items()}
    print_table(trainings, len(pairs), options.rounds, peaks)


class Timed:
    """A function, and the seconds spent in it so far."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.seconds = 0.0

    def __call__(self, *args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        outcome = self._function(*args, **options)
        self.seconds += time.perf_counter() - start
        return outcome


class Training(NamedTuple):
    """One step at a time, and the search for negatives in it."""

    step: Callable[[], object]
    search: Timed


class Attributes(Settings):
    """What Open-UCN takes from `easydict`: entries that are attributes as well."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Batches:
    """The iterator of its loader, as far as its trainer knows it: always the one batch."""

    def __init__(self, batch: Settings) -> None:
        self._batch = batch

    def next(self) -> Settings:
        return self._batch


def their_settings() -> Settings:
    """Its defaults, but for the device, and for one iteration in an epoch."""
    parser: argparse.ArgumentParser = importlib.import_module("config").parser
    return vars(parser.parse_args(["--use_gpu", "false", "--train_max_iter", "1"]))


def make_pairs(checkout: Path, settings: Settings, width: int, height: int) -> list[Item]:
    """Two crops of a photo each, whole pixels apart, with noise of its own in image 1."""
    photos = sorted((checkout / "imgs").glob("*.jpg"))[: settings["batch_size"]]
    pairs = []
    for number, path in enumerate(photos):
        rng = np.random.default_rng(number)
        photo = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert photo is not None, path
        photo = cv2.resize(photo, (width + SHIFT, height + SHIFT), interpolation=cv2.INTER_AREA)
        noisy = (photo + rng.normal(0, NOISE, photo.shape)).clip(0, 255).astype(np.uint8)
        crops = photo[None, :height, :width].copy(), noisy[None, SHIFT:, SHIFT:].copy()
        places = rng.choice(
            (width - SHIFT) * (height - SHIFT), settings["num_pos_per_batch"], replace=False
        )
        points = np.stack([places % (width - SHIFT), places // (width - SHIFT)], axis=1)
        matches = np.hstack([points + SHIFT, points]).astype(np.float32)
        pairs.append(
            Item(
                key=path.stem,
                images=(torch.from_numpy(crops[0]), torch.from_numpy(crops[1])),
                matches_N4=torch.from_numpy(matches),
                valid=None,
                seed=number,
            )
        )
    return pairs


def open_ucn(settings: Settings, pairs: Sequence[Item]) -> Training:
    """Its trainer, on one batch that its own collation makes."""
    module = importlib.import_module("lib.ucn_trainer")
    loaders = importlib.import_module("lib.data_loaders")
    search = Timed(module.find_nn_gpu)
    items = [
        {
            "pairs": pair.matches_N4.numpy(),
            "img0": pair.images[0][0].numpy(),
            "img1": pair.images[1][0].numpy(),
        }
        for pair in pairs
    ]
    batches = Batches(loaders.CollationFunctionFactory(settings)(items))
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = getattr(module, settings["trainer"])(
            Attributes(settings, out_dir=folder), data_loader=None
        )
        trainer.writer.close()
    trainer.model.train()

    def step() -> None:
        with patch.object(module, "find_nn_gpu", search):
            trainer._train_epoch(1, batches)
        assert all(bool(weight.isfinite().all()) for weight in trainer.model.parameters())

    return Training(step, search)


def ours(settings: Settings, pairs: Sequence[Item], changes: Settings) -> Training:
    """The same with our step, all pairs in one group."""
    config = TrainConfig.model_validate(
        {
            "network": {
                "name": "resunet",
                "options": {
                    "variant": settings["model"].removeprefix("ResUNet"),
                    "dimension": settings["model_n_out"],
                },
            },
            "loss": {
                "name": "hardest_contrastive",
                "positive_margin": settings["pos_thresh"],
                "negative_margin": settings["neg_thresh"],
            },
            "mining": {"radius": settings["ucn_inlier_threshold_pixel"]},
            "points": settings["num_pos_per_batch"],
            "batch_size": len(pairs),
            "group_size": len(pairs),
        }
        | changes
    )
    search = Timed(mine_hard)
    state = initial_state(config, torch.device("cpu"))
    stepper = Stepper(config, state, state.network)

    def step() -> None:
        with patch("ucn.training.mining.hard.mine_hard", search):
            stepper.step(1, collate(pairs).to(torch.device("cpu")))

    return Training(step, search)


def ours_like_theirs(settings: Settings, pairs: Sequence[Item]) -> Training:
    """Ours in float32 with its optimiser."""
    optimiser = {
        "name": settings["optimizer"].lower(),
        "learning_rate": settings["lr"],
        "momentum": settings["momentum"],
        "weight_decay": settings["weight_decay"],
    }
    return ours(settings, pairs, {"bfloat16": False, "optimiser": optimiser})


def ours_by_default(settings: Settings, pairs: Sequence[Item]) -> Training:
    """Ours with its own optimiser, the network in bfloat16."""
    return ours(settings, pairs, {})


TRAININGS: dict[str, Callable[[Settings, Sequence[Item]], Training]] = {
    "Open-UCN, float32": open_ucn,
    "ours, float32": ours_like_theirs,
    "ours, bfloat16 (default)": ours_by_default,
}


def peak_of(name: str) -> float:
    """Peak memory of that training in a process of its own, MiB."""
    command = [sys.executable, *sys.argv, "--peak", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.splitlines()[-1])


def peak_mib(step: Callable[[], object]) -> float:
    """Peak of this process's resident memory after some steps (Linux), its libraries included."""
    for _ in repeat(None, STEPS_TO_PEAK):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def print_table(
    trainings: dict[str, Training], num_pairs: int, rounds: int, peaks: Sequence[float]
) -> None:
    """One round that is not counted, then the trainings in turns."""
    times: dict[str, list[float]] = {name: [] for name in trainings}
    searches: dict[str, list[float]] = {name: [] for name in trainings}
    for number in range(rounds + 1):
        for name, training in trainings.items():
            searched, start = training.search.seconds, time.perf_counter()
            training.step()
            if number > 0:
                times[name].append(time.perf_counter() - start)
                searches[name].append(training.search.seconds - searched)
    base = next(iter(times.values()))
    print("| training | pairs a second | times as fast | s a step | of it search | peak memory |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (name, seconds), peak in zip(times.items(), peaks, strict=True):
        ratio = median(a / b for a, b in zip(base, seconds, strict=True))
        share = median(a / b for a, b in zip(searches[name], seconds, strict=True))
        print(
            f"| {name} | {num_pairs / median(seconds):.3f} | {ratio:.2f} | "
            f"{median(seconds):.2f} | {100 * share:.0f} % | {peak:.0f} MiB |"
        )


if __name__ == "__main__":
    main()
