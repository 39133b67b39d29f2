"""The mark of a finished evaluation, so that the same one is not done twice."""

import json
from collections.abc import Sequence
from pathlib import Path

from evaluation.config import EvaluateConfig
from preprocessing.shards.format import digest
from preprocessing.shards.read import ShardDataset
from preprocessing.shards.write import file_sha256
from preprocessing.storage import write_json
from training.model import CONFIG, WEIGHTS

_MARK = "finished.json"
# What changes where the results go and how fast they come, but not what they are.
_NOT_CONTENT = {"output", "json_path", "tracking", "run_name", "workers", "shards", "model"}


def fingerprint(config: EvaluateConfig, names: Sequence[str], sets: Sequence[ShardDataset]) -> str:
    """Identify what decides the results: options, shards, and the model's bytes."""
    model = [
        file_sha256(Path(config.model) / name)
        for name in (WEIGHTS, CONFIG)
        if config.model is not None
    ]
    options = config.model_dump(mode="json", exclude=_NOT_CONTENT)
    return digest(
        [options, model, [[name, one.digest] for name, one in zip(names, sets, strict=True)]]
    )


def finished_run(output: Path, identity: str) -> tuple[bool, str | None]:
    """Whether ``output`` holds the results of that very evaluation, and its MLflow run."""
    try:
        mark = json.loads((output / _MARK).read_text())
    except (OSError, ValueError):
        return False, None
    return mark.get("fingerprint") == identity, mark.get("run_id")


def mark_finished(output: Path, identity: str, run_id: str | None) -> None:
    """Written last."""
    write_json(output / _MARK, {"fingerprint": identity, "run_id": run_id})


def unmark(output: Path) -> None:
    """Before the results in ``output`` change."""
    (output / _MARK).unlink(missing_ok=True)
