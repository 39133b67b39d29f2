"""All networks trained long within a time limit, on a GPU or without, and scored together.

    python benchmarks/gpu_models.py --photos PHOTOS --out FOLDER --minutes 25 \
        [--train SHARDS ...] [--test SHARDS ...]

What it needs travels light: the worlds are made on the spot, and some hundred photos are at most a
few tens of megabytes; shards of real drives can be added to both sides. The minutes are those of
training, shared out among the networks; how many steps fit is measured first and kept in
FOLDER/steps.json. Everything goes on where it stopped: run the same command again after the window
is over, or with more `--networks`.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any, Literal

import cv2
import torch

from ucn.cluster.session import ray_session
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.job import evaluate
from ucn.pipeline.arguments import merge
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sources.registry import SOURCES
from ucn.storage.files import write_json
from ucn.training.config import TrainConfig
from ucn.training.data.inputs import open_datasets, training_sampler
from ucn.training.job import train
from ucn.training.loop.loop import Worker, WriteState, fit

MEASURED_STEPS = 24
WORLDS = {"source": "synthetic", "max_matches": 4000}
Values = dict[str, Any]

SHARED: Values = {
    "augmentation": {"crop_width": 480, "crop_height": 320, "scale": 0.5},
    "points": 1024,
    "schedule": {"ema_decay": 0.999},
    "checkpoint_every": 200,
    "data": {"validation_pairs": 32, "readers": 8},
}
PAPER: Values = {
    "network": {"name": "googlenet"},
    "loss": {"name": "contrastive", "margin": 1.0},
    "mining": {"radius": 16},
    "batch_size": 8,
}
NETWORKS: dict[str, Values] = {
    "small": {
        "loss": {"temperature": 0.05},
        "mining": {"radius": 4, "search_stride": 2},
        "batch_size": 16,
    },
    "googlenet": PAPER,
    "googlenet-st": merge(PAPER, {"network": {"options": {"transformer": "affine"}}}),
    "resunet": {
        "network": {"name": "resunet"},
        "loss": {"name": "hardest_contrastive"},
        "mining": {"radius": 4},
        "batch_size": 4,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", help="folder of photos; none leaves homographies out")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25, help="of training, all together")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--train", nargs="*", default=[], help="further shards to train on")
    parser.add_argument("--test", nargs="*", default=[], help="further shards to score on")
    parser.add_argument("--worlds", type=int, default=20)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with ray_session():
        shards = make_shards(options.out, options.photos, options.worlds)
    test = shards.pop("test")
    data = {"shards": [*shards.values(), *options.train], "validation_shards": test}
    seconds = 60 * options.minutes / len(options.networks)
    for name in options.networks:
        values = merge(SHARED, merge(NETWORKS[name], {"data": data}))
        values["output"] = str(options.out / name)
        values["tracking"] = {"uri": f"sqlite:///{options.out.absolute() / 'mlflow.db'}"}
        steps = planned_steps(options.out / "steps.json", name, values, seconds)
        print(f"{name}: {steps} steps")
        train(training_config(values, steps))
    # Their bare names may be those of baselines.
    models = [f"ucn-{name}={options.out / name / 'model'}" for name in options.networks]
    score([*models, "shipped"], [test, *options.test], options.out)


def make_shards(out: Path, photos: str | None, worlds: int) -> dict[str, str]:
    """Worlds to train on and, with other textures, to test on; homographies of photos."""
    drive = {"frames": 12, "gaps": [1, 2, 3, 5, 8]}
    sources = {
        "worlds": WORLDS | drive | {"worlds": worlds},
        "test": WORLDS
        | {"first_world": 901, "worlds": 3, "frames": 12, "gaps": [1, 3, 5], "textures": "heldout"},
    }
    if photos:
        sources["photos"] = {
            "source": "homography",
            "root": photos,
            "size": (480, 320),
            "pairs_per_photo": 4,
            "zoom": 2.5,
            "rotation": 12.0,
            "scale": 2.4,
            "perspective": 0.4,
            "min_overlap": 0.15,
            "max_matches": 3000,
        }
    for name, values in sources.items():
        options = {key: value for key, value in values.items() if key != "source"}
        root = {"root": str(out / "raw")} if "root" not in options else {}
        config = SOURCES.load(str(values["source"]))
        preprocess(config(**options, **root, out=str(out / "shards" / name)))
    return {name: str(out / "shards" / name) for name in sources}


def planned_steps(path: Path, name: str, values: Values, seconds: float) -> int:
    """So many steps fit into the seconds; measured once, then read from ``path``."""
    plan: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    if name not in plan:
        plan[name] = max(
            1, int(seconds / seconds_per_step(training_config(values, MEASURED_STEPS)))
        )
        write_json(path, plan)
    return plan[name]


def training_config(values: Values, steps: int) -> TrainConfig:
    """The settings for so many steps, a twentieth to warm up, validated ten times on the way."""
    schedule = {
        "steps": steps,
        "schedule": {"warmup_steps": steps // 20},
        "validate_every": max(1, steps // 10),
    }
    return TrainConfig.model_validate(merge(values, schedule))


def seconds_per_step(config: TrainConfig) -> float:
    """Median time of a step in this process, once it runs smoothly."""
    kind: Literal["cuda", "cpu"] = "cuda" if torch.cuda.is_available() else "cpu"
    clock = [time.perf_counter()]

    def log(step: int, metrics: dict[str, float]) -> None:
        clock.append(time.perf_counter())

    def ignore(step: int, write: WriteState) -> None:
        pass

    training, _ = open_datasets(config)
    worker = Worker(log, ignore, device=torch.device(kind))
    fit(config, training, None, worker, training_sampler(config, training))
    half = len(clock) // 2
    return median(b - a for a, b in zip(clock[half:], clock[half + 1 :], strict=False))


def score(models: list[str], shards: list[str], out: Path) -> None:
    """One table of all models and of dense SIFT and DAISY."""
    config = EvaluateConfig.model_validate(
        {
            "model": models,
            "shards": shards,
            "output": out / "evaluate",
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "tracking": {"uri": f"sqlite:///{out.absolute() / 'mlflow.db'}"},
        }
    )
    print(evaluate(config).markdown)


if __name__ == "__main__":
    main()
