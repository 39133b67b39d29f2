"""One MLflow run: starting, logging in the background, ending, resuming."""

import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ucn.images.draw import Picture, write_picture
from ucn.storage.addresses import redact
from ucn.training.config import TrackingConfig
from ucn.training.tracking.client import SQLITE, brief, open_client
from ucn.training.tracking.delivery import (
    ENTRY_BYTES,
    METRICS_AT_ONCE,
    Delivery,
    Point,
    retry_request,
)

logger = logging.getLogger(__name__)

PARAMS_AT_ONCE = 100
"""Limit of MLflow's for one request."""

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class DatasetLink:
    """A dataset that a run read.

    Attributes:
        name: shown in MLflow.
        digest: sha256 of its manifest.
        source: URI of the shards.
        context: what for: ``training``, ``validation``, ``evaluation``.
    """

    name: str
    digest: str
    source: str
    context: str


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
        the run's id; None if tracking is off or MLflow does not answer for `delivery.PATIENCE_S`.
    """
    if not config.enabled:
        return None
    try:
        client = open_client(config)
        experiment_id = retry_request(redact(config.uri), lambda: _experiment(client, config))
        all_tags = dict(tags) | {f"manifest_sha256.{link.name}": link.digest for link in datasets}
        run_id = str(client.create_run(experiment_id, run_name=name, tags=all_tags).info.run_id)
    except Exception as error:  # noqa: BLE001 - no error of tracking stops a run
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
    """Logs to one run in the background; see `Delivery` for its behaviour in an outage.

    Without a run id every method does nothing. As a context manager it waits at the end, for a
    bounded time, until all is logged.

    Args:
        config: where the run lives.
        run_id: from `start_run`.
        resumes: a metric of every step. Metrics up to the last step that the run has of it, when
            the first are delivered, are left out: a resumed run would log them twice.
    """

    def __init__(
        self,
        config: TrackingConfig,
        run_id: str | None,
        resumes: str | None = None,
    ) -> None:
        self._config = config
        self._run_id = run_id
        self._last_step = -1 if resumes is None else None
        self._resumes = resumes
        self._delivery: Delivery | None = None
        if run_id is not None and config.enabled:
            self._delivery = Delivery(redact(config.uri), self._send, self._probe)

    def __enter__(self) -> "RunLogger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_active(self) -> bool:
        """Whether anything is logged."""
        return self._delivery is not None

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log parameters."""
        items = list(params.items())
        for start in range(0, len(items), PARAMS_AT_ONCE):
            self._put(partial(self._log_params, items[start : start + PARAMS_AT_ONCE]))

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics of a step; ``@`` and the degree sign are refused by MLflow."""
        now = int(time.time() * 1000)
        points = [Point(name, float(value), now, step) for name, value in metrics.items()]
        if self._delivery is not None:
            for start in range(0, len(points), METRICS_AT_ONCE):
                self._delivery.put_points(tuple(points[start : start + METRICS_AT_ONCE]))

    def log_artifact(self, path: Path | str, folder: str | None = None) -> None:
        """Log a file or a folder as an artifact."""
        path = Path(path)
        if path.is_dir():
            self._put(lambda: self._client.log_artifacts(self._run_id, str(path), folder))
        else:
            self._put(lambda: self._client.log_artifact(self._run_id, str(path), folder))

    def log_picture(self, picture: Picture, name: str) -> None:
        """Keep a picture as an artifact called ``name``, ending in .png or .jpg.

        Args:
            picture: uint8 [H, W, 3] RGB; not to be changed afterwards.
            name: with folders, such as ``validation/step-000200/PAIR.png``.
        """
        self._put(partial(self._log_picture, picture, PurePosixPath(name)), picture.nbytes)

    def log_dict(self, value: Mapping[str, Any], name: str) -> None:
        """Keep ``value`` as an artifact called ``name``, ending in .json or .yaml."""
        self._put(lambda: self._client.log_dict(self._run_id, dict(value), name))

    def log_datasets(self, datasets: list[DatasetLink]) -> None:
        """Record what the run read as MLflow dataset inputs."""
        self._put(lambda: self._client.log_inputs(self._run_id, _inputs(datasets)))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for name, value in tags.items():
            self._put(partial(self._set_tag, name, value))

    def restart(self) -> None:
        """Mark a run that had ended as running again."""
        self._put(lambda: self._client.update_run(self._run_id, status="RUNNING"))

    def finish(self, status: Status = "FINISHED") -> None:
        """End the run, and wait until all is logged."""
        self._put(lambda: self._client.set_terminated(self._run_id, status))
        self.close()

    def close(self) -> None:
        """Wait for a bounded time until all is logged; nothing can be logged afterwards."""
        if self._delivery is not None:
            self._delivery.close()
            self._delivery = None

    def _put(self, call: Callable[[], object], size: int = ENTRY_BYTES) -> None:
        if self._delivery is not None:
            self._delivery.put(call, size)

    # What follows runs in the background, which alone imports MLflow.

    @cached_property
    def _client(self) -> Any:
        return open_client(self._config)

    def _probe(self) -> object:
        return self._client.get_run(self._run_id)

    def _send(self, points: list[Point]) -> None:
        from mlflow.entities import Metric

        if self._last_step is None:
            self._last_step = _last_step(self._client, self._run_id, self._resumes)
        metrics = [Metric(*point) for point in points if point.step > self._last_step]
        if metrics:
            self._client.log_batch(self._run_id, metrics=metrics)

    def _log_params(self, items: list[tuple[str, str]]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(self._run_id, params=[Param(*item) for item in items])

    def _set_tag(self, name: str, value: str) -> None:
        self._client.set_tag(self._run_id, name, value)

    def _log_picture(self, picture: Picture, name: PurePosixPath) -> None:
        folder = None if name.parent == PurePosixPath() else str(name.parent)
        with tempfile.TemporaryDirectory(prefix="ucn-") as temporary:
            write_picture(Path(temporary) / name.name, picture)
            self._client.log_artifact(self._run_id, str(Path(temporary) / name.name), folder)


def _last_step(client: Any, run_id: str | None, metric: str | None) -> int:
    """Last step at which a run has a value of ``metric``; -1 where it has none."""
    return max((entry.step for entry in client.get_metric_history(run_id, metric)), default=-1)


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
    logger.warning(
        "%s: MLflow does not answer (%s); going on without it", redact(config.uri), brief(error)
    )
