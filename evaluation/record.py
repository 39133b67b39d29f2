"""The MLflow run of an evaluation."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evaluation.config import EvaluateConfig
from preprocessing.shards.read import ShardDataset
from preprocessing.shards.write import file_sha256
from training.model import WEIGHTS
from training.tracking import DatasetLink, RunLogger, resolve_tracking, start_run


@dataclass(frozen=True)
class Record:
    """An open run; ``run_id`` is None where none is kept."""

    run_id: str | None
    logger: RunLogger

    def log(self, metrics: Mapping[str, float], output: Path) -> None:
        """Log all metrics, and the output folder with report, tables, curves and pictures."""
        self.logger.log_metrics(metrics)
        self.logger.log_artifact(output)


@contextmanager
def recorded_run(
    config: EvaluateConfig, names: Sequence[str], sets: Sequence[ShardDataset]
) -> Iterator[Record]:
    """Keep a run around the block; it ends as FAILED if the block raises.

    The run is linked to the manifest of every set as a dataset input, and to the model by the tags
    ``model.folder`` and ``model.sha256``.
    """
    tracking = resolve_tracking(config.tracking)
    tags = {"stage": "evaluate"}
    if config.model is not None:
        folder = Path(config.model).resolve()
        tags |= {"model.folder": str(folder), "model.sha256": file_sha256(folder / WEIGHTS)}
    links = [
        DatasetLink(name, one.digest, one.uri, "evaluation")
        for name, one in zip(names, sets, strict=True)
    ]
    run_id = start_run(tracking, config.run_name, config.model_dump(mode="json"), tags, links)
    logger = RunLogger(tracking, run_id)
    try:
        yield Record(run_id, logger)
    except BaseException:
        logger.finish("FAILED")
        raise
    logger.finish()
