"""The MLflow run of an evaluation."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import named_models
from ucn.evaluation.scores.pck import CURVE_THRESHOLDS
from ucn.preprocessing.shards.read import ShardDataset
from ucn.training.model import WEIGHTS, model_digests, model_place
from ucn.training.tracking import DatasetLink, RunLogger, resolve_tracking, start_run


@dataclass(frozen=True)
class EvaluationRun:
    """An open MLflow run; ``run_id`` is None where tracking is off."""

    run_id: str | None
    logger: RunLogger

    def log(
        self, metrics: Mapping[str, float], curves: Mapping[str, Sequence[float]], output: Path
    ) -> None:
        """Log all metrics, and the output folder as artifacts.

        A curve is a metric whose step is the threshold in pixels.
        """
        self.logger.log_metrics(metrics)
        for place, threshold in enumerate(CURVE_THRESHOLDS):
            at_threshold = {name: curve[place] for name, curve in curves.items()}
            self.logger.log_metrics(at_threshold, step=threshold)
        self.logger.log_artifact(output)


@contextmanager
def mlflow_run(
    config: EvaluateConfig, names: Sequence[str], sets: Sequence[ShardDataset]
) -> Iterator[EvaluationRun]:
    """Open a run for the block; it ends as FAILED if the block raises.

    The run is linked to the manifest of every set as a dataset input, and to the models by tags:
    ``model.folder`` and ``model.sha256`` of the first, ``model.NAME.folder`` and so on of others.
    """
    tracking = resolve_tracking(config.tracking)
    tags = {"stage": "evaluate"}
    for rank, (name, folder) in enumerate(named_models(config.model)):
        place = f"model.{name}" if rank else "model"
        tags |= {
            f"{place}.folder": model_place(folder),
            f"{place}.sha256": model_digests(folder)[WEIGHTS],
        }
    links = [
        DatasetLink(name, one.digest, one.uri, "evaluation")
        for name, one in zip(names, sets, strict=True)
    ]
    # The tracking URI is no parameter, and may hold a password.
    params = config.model_dump(mode="json", exclude={"tracking"})
    run_id = start_run(tracking, config.run_name, params, tags, links)
    logger = RunLogger(tracking, run_id)
    try:
        yield EvaluationRun(run_id, logger)
    except BaseException:
        logger.finish("FAILED")
        raise
    logger.finish()
