"""MLflow's side of the log: what each kind of line becomes there. Calls may be repeated."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from ucn.storage.addresses import SQLITE, redact, sqlite_path
from ucn.storage.files import file_sha256
from ucn.training.model import WEIGHTS
from ucn.training.tracking.log import Entry

PARAMS_AT_ONCE = 100
"""Limit of MLflow's for one request."""
RUN_TAG = "ucn.run"
"""Tag of a run: its id in the log."""
SHA256_TAG = "ucn.sha256"
"""Tag of a logged model and of a registered version: the digest of the weights."""
EXPERIMENT = "experiment"
EXPERIMENT_KIND = "mlflow.experimentKind", "custom_model_development"
"""Tag of an experiment of model training; some versions of MLflow open it in this view."""
EXTERNAL_TAG = "mlflow.model.isExternal"


class Server:
    """Makes what log entries describe, on one MLflow server.

    Args:
        uri: of the server or database.
        folder: of the log; paths of files are relative to it.
        ids: filled with MLflow's ids: of a run by its id in the log, of a model by that of the run
            and the digest of the weights, and of the last `EXPERIMENT`.
    """

    def __init__(self, uri: str, folder: Path, ids: dict[str, str]) -> None:
        self._uri, self._folder, self._ids = uri, folder, ids

    def deliver(self, entries: Sequence[Entry]) -> Mapping[str, int]:
        """Deliver entries of metrics of one run, or one other entry.

        Returns:
            what was delivered, counted by kind.
        """
        kind = entries[0].get("kind", "damaged")
        if kind == "metrics":
            return {kind: self._log_metrics(entries)}
        if kind == "status":
            self._set_status(entries[0])
        makers = {"run": self._start, "artifact": self._log_artifact, "model": self._log_model}
        if kind not in makers:
            return {}
        makers[kind](entries[0])
        return {f"{kind}s": 1}

    def probe(self) -> object:
        """Make a harmless request, which shows whether the server answers."""
        return self._client.search_experiments(max_results=1)

    @cached_property
    def _client(self) -> Any:
        return open_client(self._uri)

    def _run_id(self, entry: Entry) -> str:
        if entry["run"] not in self._ids:
            raise LookupError("its run was refused")
        return self._ids[entry["run"]]

    def _start(self, entry: Entry) -> None:
        from mlflow.entities import Param

        experiment = self._experiment(entry["experiment"])
        tags = entry["tags"] | {RUN_TAG: entry["run"]}
        if entry["parent"]:
            tags["mlflow.parentRunId"] = self._run_id({"run": entry["parent"]})
        found = self._client.search_runs(
            [experiment], f"tags.`{RUN_TAG}` = '{entry['run']}'", max_results=1
        ) or [
            self._client.create_run(
                experiment, start_time=entry["time"], tags=tags, run_name=entry["name"]
            )
        ]
        # First, so that a param that is refused loses nothing else.
        run_id = self._ids[entry["run"]] = str(found[0].info.run_id)
        if entry["datasets"]:
            self._client.log_inputs(run_id, _dataset_inputs(entry["datasets"]))
        params = [Param(*item) for item in entry["params"].items()]
        for start in range(0, len(params), PARAMS_AT_ONCE):
            self._client.log_batch(run_id, params=params[start : start + PARAMS_AT_ONCE])

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        database = sqlite_path(self._uri)
        location = database and (database.parent / "mlartifacts").as_uri()
        encoded = os.path.dirname(self._uri.removeprefix(SQLITE).partition("?")[0])
        is_known = self._client.get_experiment_by_name(name) is not None
        if database and encoded != str(database.parent):
            # MLflow has made an empty folder of the encoded name, too.
            with suppress(OSError):
                os.removedirs(encoded)
        if not is_known:
            try:
                self._client.create_experiment(name, artifact_location=location)
            except MlflowException as error:
                # Another process may have been quicker.
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        experiment = self._client.get_experiment_by_name(name)
        kind, ours = EXPERIMENT_KIND
        if kind not in experiment.tags:
            self._client.set_experiment_tag(experiment.experiment_id, kind, ours)
        self._ids[EXPERIMENT] = str(experiment.experiment_id)
        return self._ids[EXPERIMENT]

    def _log_metrics(self, entries: Sequence[Entry]) -> int:
        from mlflow.entities import Metric

        metrics = [
            Metric(
                name,
                value,
                entry["time"],
                entry["step"],
                self._ids.get(f"{entry['run']}/{entry['model']}"),
                *_short(entry["dataset"] or (None, None)),
            )
            for entry in entries
            for name, value in entry["values"].items()
        ]
        self._client.log_batch(self._run_id(entries[0]), metrics=metrics)
        return len(metrics)

    def _log_artifact(self, entry: Entry) -> None:
        path, run_id = self._folder / entry["file"], self._run_id(entry)
        _check_unchanged(path, entry["sha256"])
        self._client.log_artifact(run_id, str(path), entry["folder"] or None)
        if entry["table"]:
            name = str(Path(entry["folder"]) / path.name)
            self._client.set_tag(
                run_id, "mlflow.loggedArtifacts", json.dumps([{"path": name, "type": "table"}])
            )

    def _log_model(self, entry: Entry) -> None:
        from mlflow.entities import LoggedModelInput, LoggedModelOutput

        run = self._client.get_run(self._run_id(entry))
        model = self._logged_model(entry, run)
        model_id = str(model.model_id)
        linked = [*run.inputs.model_inputs, *run.outputs.model_outputs]
        if model_id not in [one.model_id for one in linked]:
            if entry["files"]:
                output = LoggedModelOutput(model_id, entry["step"])
                self._client.log_outputs(run.info.run_id, [output])
            else:
                self._client.log_inputs(run.info.run_id, models=[LoggedModelInput(model_id)])
        if entry["registered"]:
            self._register(entry, run.info.run_id, model)
        self._ids[f"{entry['run']}/{entry['sha256']}"] = model_id

    def _logged_model(self, entry: Entry, run: Any) -> Any:
        """Find the logged model by the digest of its weights, or make one.

        One that a run has only read is made without files; a run that made it needs one with files.
        """
        experiment, sha256, files = run.info.experiment_id, entry["sha256"], entry["files"]
        found = self._client.search_logged_models([experiment], f"tags.`{SHA256_TAG}` = '{sha256}'")
        with_files = [one for one in found if EXTERNAL_TAG not in one.tags]
        model = next(iter(with_files if files else [*with_files, *found]), None)
        if model is None:
            tags = entry["tags"] | {SHA256_TAG: sha256}
            model = self._client.create_logged_model(
                experiment,
                entry["name"],
                run.info.run_id if files else None,
                tags=tags if files else tags | {EXTERNAL_TAG: "true"},
                params={"place": entry["place"]},
            )
        # Another run may be sending the files of one that is not ready.
        if str(model.status) != "READY" and (files or EXTERNAL_TAG in model.tags):
            if files:
                _check_unchanged(self._folder / files / WEIGHTS, sha256)
                self._client.log_model_artifacts(model.model_id, str(self._folder / files))
            self._client.finalize_logged_model(model.model_id, "READY")
        return model

    def _register(self, entry: Entry, run_id: str, model: Any) -> None:
        """Make a version of the registered model, unless one has these weights."""
        from mlflow.exceptions import MlflowException

        name, tags = entry["registered"], entry["tags"] | {SHA256_TAG: entry["sha256"]}
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        versions = self._client.search_model_versions(f"tags.`{SHA256_TAG}` = '{entry['sha256']}'")
        if name not in [one.name for one in versions]:
            version = self._client.create_model_version(
                name,
                model.artifact_location,
                run_id,
                tags=tags,
                model_id=model.model_id,
                # A database has made it when it answers.
                await_creation_for=0,
            )
            shown = json.dumps([{"name": name, "version": version.version}])
            self._client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": shown})

    def _set_status(self, entry: Entry) -> None:
        run_id, status = self._run_id(entry), entry["status"]
        if status == "RUNNING":
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status, entry["time"])


def open_client(uri: str) -> Any:
    """Make a client with few retries of its own."""
    # MLflow reads these at each request; by default it retries for many minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    # Hides messages about the database setup; the caller reports errors.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed later: no connection, or the server is busy or failing."""
    from botocore import exceptions as s3
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    if isinstance(error, MlflowException):
        # MLflow gives requests that did not reach the server the status 500.
        status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
        return _is_transient_status(status)
    if isinstance(error, RequestException) and error.response is not None:
        return _is_transient_status(error.response.status_code)
    broken = RequestException, ConnectionError, TimeoutError, s3.ConnectionError, s3.HTTPClientError
    return isinstance(error, broken)


def _is_transient_status(status: int) -> bool:
    return status in (408, 429) or (status >= 500 and status != 501)


def brief(error: Exception) -> str:
    """The first line of an error, truncated to 200 characters, with its URIs redacted."""
    return redact((str(error).splitlines() or [type(error).__name__])[0])[:200]


def _check_unchanged(path: Path, sha256: str) -> None:
    if file_sha256(path) != sha256:
        raise ValueError(f"{path}: has changed since it was logged")


def _short(dataset: Sequence[str | None]) -> tuple[str | None, str | None]:
    """Name and digest of a dataset; MLflow allows a digest 36 characters."""
    name, digest = dataset
    return name, digest and digest[:36]


def _dataset_inputs(datasets: Sequence[Mapping[str, str]]) -> list[Any]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return [
        DatasetInput(
            # The whole digest is in the profile.
            Dataset(
                name=one["name"],
                digest=one["digest"][:36],
                source_type="ucn-shards",
                source=json.dumps({"uri": one["source"]}),
                profile=json.dumps({"manifest_sha256": one["digest"]}),
            ),
            [InputTag("mlflow.data.context", one["context"])],
        )
        for one in datasets
    ]
