"""Training recipes beside each other: the same data, steps and seeds, held-out PCK with its spread.

    python benchmarks/recipes.py --shards TRAIN --held-out drive=TEST real=REAL --out FOLDER \
        --recipe "RN: mining.name=random" --recipe "HN: mining.name=hard" steps=400

What is measured is kept in FOLDER, a file a run; a rerun does only what is missing there.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import cv2
import torch
from tqdm import tqdm

from ucn.pipeline.arguments import merge, read_layers
from ucn.preprocessing.shards.read import ShardDataset
from ucn.storage.files import write_json
from ucn.training.config import TrainConfig
from ucn.training.data.inputs import open_datasets, training_sampler
from ucn.training.loop.loop import Worker, WriteState, best_weights, fit
from ucn.training.loop.validate import validate
from ucn.training.model import save_model

_SHOWN = ("pck/3", "pck/10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", nargs="+", required=True, help="to train on")
    parser.add_argument("--held-out", nargs="+", required=True, help="NAME=SHARDS to measure on")
    parser.add_argument("--recipe", action="append", required=True, help="'NAME: KEY=VALUE ...'")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=64, help="held-out pairs of each set")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", type=Path, help="folder that keeps the trained models")
    parser.add_argument("settings", nargs="*", help="KEY=VALUE of all recipes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    held_out = dict(text.split("=", 1) for text in options.held_out)
    recipes = dict(text.split(":", 1) for text in options.recipe)
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in recipes}
    for seed, name in product(range(options.seeds), recipes):
        path = options.out / f"{name}-{seed}.json"
        if not path.exists():
            settings, _ = read_layers([*options.settings, *recipes[name].split()])
            data = {"shards": options.shards, "validation_pairs": options.pairs}
            values = merge({"data": data, "seed": seed}, settings)
            keep = options.models and options.models / path.stem
            write_json(path, _measure(TrainConfig.model_validate(values), held_out, keep))
        scores[name].append(json.loads(path.read_text()))
    for line in _table(scores, list(held_out)):
        print(line)


def _measure(config: TrainConfig, held_out: dict[str, str], keep: Path | None) -> dict[str, float]:
    """Train without Ray, measure what comes of it, and keep the model where ``keep`` says."""
    training, _ = open_datasets(config)
    losses: list[float] = []

    def ignore(step: int, write: WriteState) -> None:
        pass

    with tqdm(total=config.steps, unit="step", mininterval=10) as bar:

        def log(step: int, metrics: dict[str, float]) -> None:
            losses.append(metrics["loss"])
            bar.update()

        sampler = training_sampler(config, training)
        state = fit(config, training, None, Worker(log, ignore), sampler)
    state.network.load_state_dict(best_weights(state)[0])
    if keep:
        save_model(keep, state.network, config.network)
    scores = {"loss": statistics.fmean(losses[-50:])}
    for name, uri in held_out.items():
        measured = validate(state.network, ShardDataset(uri), config)
        scores |= {f"{name} {threshold}": value for threshold, value in measured.items()}
    return scores


def _table(scores: dict[str, list[dict[str, float]]], sets: list[str]) -> Iterator[str]:
    """Mean over the seeds, and the least and the most."""
    columns = [f"{name} {threshold}" for name in sets for threshold in _SHOWN]
    yield f"| recipe | {' | '.join(columns)} |"
    yield f"| --- |{' --- |' * len(columns)}"
    for name, runs in scores.items():
        cells = []
        for column in columns:
            values = [run[column] for run in runs]
            spread = f"{min(values):.1f} to {max(values):.1f}"
            cells.append(f"{statistics.fmean(values):.1f} ({spread})")
        yield f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
