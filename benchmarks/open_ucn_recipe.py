"""Open-UCN's own trainer on our shards for so many minutes of CPU; its model as one of ours.

    python benchmarks/open_ucn_recipe.py --open-ucn CHECKOUT --shards hom worlds --minutes 60 \
        --out theirs batch_size=2 augmentation.crop_width=480 augmentation.crop_height=320
    ucn evaluate --model theirs=theirs shipped --shards TEST

Its trainer, network, loss, negatives, optimiser and settings are as it has them, but for the
device. What it reads are the crops and correspondences that `ucn train` would train on with the
same KEY=VALUE settings, put together by its own collation. It stops at the first batch that it asks
for when the minutes are spent: of the process and all its threads, whoever else keeps the machine
busy.
"""

import argparse
import importlib
import itertools
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import torch
from open_ucn_training import Attributes, Settings, their_settings
from torch import Tensor

from ucn.pipeline.arguments import merge, read_layers
from ucn.training.config import NetworkConfig, TrainConfig
from ucn.training.data.inputs import open_datasets, training_sampler
from ucn.training.data.pairs import Item, load_item
from ucn.training.model import save_model
from ucn.training.networks import build_network


class BudgetSpent(Exception):
    """The minutes are over."""


class Loader:
    """What its trainer reads from: batches until the CPU time is spent."""

    def __init__(self, batches: Iterator[Settings], seconds: float) -> None:
        self._batches = batches
        self._seconds = seconds
        self.steps = 0

    def __iter__(self) -> "Loader":
        return self

    def next(self) -> Settings:
        """Its trainer's way to ask."""
        return self.__next__()

    def __next__(self) -> Settings:
        if time.process_time() > self._seconds:
            raise BudgetSpent
        self.steps += 1
        return next(self._batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open-ucn", type=Path, required=True, help="a checkout of Open-UCN")
    parser.add_argument("--shards", nargs="+", required=True, help="to train on")
    parser.add_argument("--minutes", type=float, required=True, help="of CPU")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("settings", nargs="*", help="KEY=VALUE of `ucn train`")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    sys.path.insert(0, str(options.open_ucn))
    values, _ = read_layers(options.settings)
    config = TrainConfig.model_validate(merge({"data": {"shards": options.shards}}, values))
    settings = their_settings() | {"batch_size": config.batch_size, "stat_freq": 1}
    # It ends by the clock, not by a number of iterations.
    settings["train_max_iter"] = sys.maxsize
    loader = Loader(their_batches(config, settings), 60 * options.minutes)
    with tempfile.TemporaryDirectory() as folder:
        weights = train(settings, loader, folder)
    save(weights, settings, options.out)
    print(f"{loader.steps} steps of {config.batch_size} pairs in {options.minutes:g} CPU minutes")


def their_batches(config: TrainConfig, settings: Settings) -> Iterator[Settings]:
    """Our training batches, as its collation puts them together."""
    collate = importlib.import_module("lib.data_loaders").CollationFunctionFactory(settings)
    training, _ = open_datasets(config)
    sampler = training_sampler(config, training)
    for step in itertools.count():
        items = (
            load_item(training.reader.read(training.locate(draw.sample)), *draw, 1, config)
            for draw in sampler.batch(step)
        )
        yield collate([_as_theirs(item) for item in items])


def _as_theirs(item: Item) -> Settings:
    image0, image1 = (image[0].numpy() for image in item.images)
    return {"pairs": item.matches_N4.numpy(), "img0": image0, "img1": image1}


def train(settings: Settings, loader: Loader, folder: str) -> dict[str, Tensor]:
    """Run its trainer until the minutes are spent.

    Returns:
        the weights of its network.
    """
    module = importlib.import_module("lib.ucn_trainer")
    torch.manual_seed(0)
    trainer: Any = getattr(module, settings["trainer"])(
        Attributes(settings, out_dir=folder), data_loader=loader
    )
    with suppress(BudgetSpent):
        trainer.train()
    trainer.writer.close()
    weights: dict[str, Tensor] = trainer.model.state_dict()
    return weights


def save(weights: dict[str, Tensor], settings: Settings, out: Path) -> None:
    """Make a model folder of its weights, with its geometry."""
    config = NetworkConfig(
        name="resunet",
        options={
            "variant": settings["model"].removeprefix("ResUNet"),
            "dimension": settings["model_n_out"],
            "centred": False,
        },
    )
    network = build_network(config.name, config.options)
    network.load_published(weights)
    save_model(out, network, config)


if __name__ == "__main__":
    main()
