"""The mark of a finished evaluation, so that the same one is not done twice."""

import json
from collections.abc import Sequence
from pathlib import Path

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import named_models
from ucn.evaluation.scores.brown_patches import POINTS, TEST_LIST
from ucn.preprocessing.shards.format import digest
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.write import file_sha256
from ucn.storage.files import write_json
from ucn.training.model import model_digests

_MARK = "finished.json"
# What changes where the results go and how fast they come, but not what they are.
_NOT_CONTENT = {
    "output",
    "json_path",
    "tracking",
    "run_name",
    "workers",
    "shards",
    "model",
    "googlenet_weights",
    "patches",
}


def fingerprint(config: EvaluateConfig, names: Sequence[str], sets: Sequence[ShardDataset]) -> str:
    """Identify what decides the results: options, shards, and the model's bytes."""
    models = [[name, model_digests(folder)] for name, folder in named_models(config.model)]
    weights = config.googlenet_weights and file_sha256(config.googlenet_weights)
    options = config.model_dump(mode="json", exclude=_NOT_CONTENT)
    data = [[name, one.digest] for name, one in zip(names, sets, strict=True)]
    patches = [
        [folder.resolve().name, *(file_sha256(folder / name) for name in (POINTS, TEST_LIST))]
        for folder in config.patches
    ]
    return digest([options, models, weights, data, patches])


def finished_run(output: Path, identity: str) -> tuple[bool, str | None]:
    """Whether ``output`` holds the results of that very evaluation, and its MLflow run."""
    try:
        mark = json.loads((output / _MARK).read_text())
    except (OSError, ValueError):
        return False, None
    if not isinstance(mark, dict) or mark.get("fingerprint") != identity:
        return False, None
    return True, mark.get("run_id")


def mark_finished(output: Path, identity: str, run_id: str | None) -> None:
    """Written last."""
    write_json(output / _MARK, {"fingerprint": identity, "run_id": run_id})


def unmark(output: Path) -> None:
    """Before the results in ``output`` change."""
    (output / _MARK).unlink(missing_ok=True)
