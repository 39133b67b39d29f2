"""MLflow, kept at arm's length: slow or broken tracking never holds up the work.

All calls to a run go through one background thread; the first failure is warned of, and then
nothing more is logged.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from training.config import TrackingConfig

logger = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""How long the end of a run waits for what is still to be logged."""
QUEUE_LENGTH = 10_000
SQLITE = "sqlite:///"

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class DatasetLink:
    """A dataset that a run read.

    Attributes:
        name: for people.
        digest: sha256 of its manifest.
        source: URI of the shards.
        context: what for: ``training``, ``validation``, ``evaluation``.
    """

    name: str
    digest: str
    source: str
    context: str


def resolve_tracking(config: TrackingConfig) -> TrackingConfig:
    """Make a relative SQLite path absolute, so that it holds in any working directory."""
    if not config.uri.startswith(SQLITE):
        return config
    path = Path(config.uri.removeprefix(SQLITE)).expanduser().absolute()
    return config.model_copy(update={"uri": f"{SQLITE}{path}"})


def start_run(
    config: TrackingConfig,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    datasets: list[DatasetLink],
) -> str | None:
    """Create a run in the configured experiment, which is created on first use.

    Args:
        params: nested mappings are flattened to dotted names.

    Returns:
        the run's id; None where tracking is off or does not answer.
    """
    if not config.enabled:
        return None
    try:
        client = _client(config)
        experiment_id = _experiment(client, config)
        all_tags = dict(tags) | {f"manifest_sha256.{link.name}": link.digest for link in datasets}
        run_id = str(client.create_run(experiment_id, run_name=name, tags=all_tags).info.run_id)
    except Exception as error:  # noqa: BLE001 - whatever ails the tracking, work goes on
        _warn(config, error)
        return None
    with RunLogger(config, run_id) as run:
        run.log_params(flatten(params))
        run.log_datasets(datasets)
    return run_id


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested mappings to dotted names; values become text of at most 500 characters."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)[:500]
    return flat


class RunLogger:
    """Writes to one run from the background.

    Without a run id every method does nothing. As a context manager it waits at the end, for a
    bounded time, until all is logged.

    Args:
        config: where the run lives.
        run_id: from `start_run`.
        last_step: metrics of this and earlier steps are left out, since a resumed run would log
            them twice.
    """

    def __init__(self, config: TrackingConfig, run_id: str | None, last_step: int = -1) -> None:
        self._config = config
        self._run_id = run_id
        self._last_step = last_step
        self._queue: queue.Queue[Callable[[], object] | None] = queue.Queue(QUEUE_LENGTH)
        self._thread: threading.Thread | None = None
        if run_id is not None and config.enabled:
            self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
            self._thread.start()

    def __enter__(self) -> "RunLogger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log parameters."""
        from mlflow.entities import Param

        entities = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(entities), 100):
            part = entities[start : start + 100]
            self._submit(partial(self._client.log_batch, self._run_id, params=part))

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics of a step; ``@`` and the degree sign are refused by MLflow."""
        if step <= self._last_step or self._thread is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entities = [Metric(name, float(value), now, step) for name, value in metrics.items()]
        self._submit(lambda: self._client.log_batch(self._run_id, metrics=entities))

    def log_artifact(self, path: Path | str, folder: str | None = None) -> None:
        """Keep a file, or a folder with all it holds, with the run."""
        path = Path(path)
        if path.is_dir():
            self._submit(lambda: self._client.log_artifacts(self._run_id, str(path), folder))
        else:
            self._submit(lambda: self._client.log_artifact(self._run_id, str(path), folder))

    def log_dict(self, value: Mapping[str, Any], name: str) -> None:
        """Keep ``value`` as an artifact called ``name``, ending in .json or .yaml."""
        self._submit(lambda: self._client.log_dict(self._run_id, dict(value), name))

    def log_datasets(self, datasets: list[DatasetLink]) -> None:
        """Record what the run read as MLflow dataset inputs."""
        self._submit(lambda: self._client.log_inputs(self._run_id, _inputs(datasets)))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for name, value in tags.items():
            self._submit(partial(self._client.set_tag, self._run_id, name, value))

    def restart(self) -> None:
        """Mark a run that had ended as running again."""
        self._submit(lambda: self._client.update_run(self._run_id, status="RUNNING"))

    def finish(self, status: Status = "FINISHED") -> None:
        """End the run, and wait until all is logged."""
        self._submit(lambda: self._client.set_terminated(self._run_id, status))
        self.close()

    def close(self) -> None:
        """Wait until all is logged, at most `PATIENCE_S`; nothing can be logged afterwards."""
        if self._thread is None:
            return
        self._submit(None)
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            logger.warning("%s: MLflow is slow; gave up waiting for it", self._config.uri)
        self._thread = None

    def _submit(self, call: Callable[[], object] | None) -> None:
        if self._thread is not None:
            try:
                self._queue.put_nowait(call)
            except queue.Full:
                logger.warning("%s: MLflow is slow; some metrics are lost", self._config.uri)

    def _work(self) -> None:
        broken = False
        while (call := self._queue.get()) is not None:
            if broken:
                continue
            try:
                call()
            except Exception as error:  # noqa: BLE001 - whatever ails the tracking, work goes on
                broken = True
                _warn(self._config, error)

    @property
    def _client(self) -> Any:
        return _client(self._config)


def last_logged_step(config: TrackingConfig, run_id: str | None, metric: str) -> int:
    """Last step at which a run has a value of ``metric``; -1 where it has none."""
    if run_id is None or not config.enabled:
        return -1
    try:
        history = _client(config).get_metric_history(run_id, metric)
    except Exception as error:  # noqa: BLE001 - whatever ails the tracking, work goes on
        _warn(config, error)
        return -1
    return max((entry.step for entry in history), default=-1)


def _client(config: TrackingConfig) -> Any:
    # Read by MLflow at each request: its own default is to try for many minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow import MlflowClient

    # How it sets up its database is nobody's business.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=config.uri)


def _experiment(client: Any, config: TrackingConfig) -> str:
    from mlflow.exceptions import MlflowException

    location = None
    if config.uri.startswith(SQLITE):
        database = Path(config.uri.removeprefix(SQLITE))
        database.parent.mkdir(parents=True, exist_ok=True)
        location = (database.parent / "mlartifacts").as_uri()
    if (experiment := client.get_experiment_by_name(config.experiment)) is None:
        try:
            return str(client.create_experiment(config.experiment, artifact_location=location))
        except MlflowException:
            # Another process was quicker.
            experiment = client.get_experiment_by_name(config.experiment)
            if experiment is None:
                raise
    return str(experiment.experiment_id)


def _inputs(datasets: list[DatasetLink]) -> list[Any]:
    import json

    from mlflow.entities import Dataset, DatasetInput, InputTag

    return [
        DatasetInput(
            # MLflow allows a digest 36 characters; the whole one is in the profile.
            Dataset(
                name=link.name,
                digest=link.digest[:36],
                source_type="ucn-shards",
                source=json.dumps({"uri": link.source}),
                profile=json.dumps({"manifest_sha256": link.digest}),
            ),
            [InputTag("mlflow.data.context", link.context)],
        )
        for link in datasets
    ]


def _warn(config: TrackingConfig, error: Exception) -> None:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    logger.warning("%s: MLflow does not answer (%s); going on without it", config.uri, reason)
