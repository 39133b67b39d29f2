"""The log of MLflow runs in an output folder. MLflow itself is not needed to write it.

``OUTPUT/tracking/log.jsonl`` holds one JSON object a line. Lines are only appended, so that a
killed and resumed run goes on in the same file. Files that only MLflow needs are beside it, in
``files/``. `ucn.training.tracking.delivery` sends the lines to MLflow.
"""

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ucn.storage.addresses import redact
from ucn.storage.files import file_sha256
from ucn.training.config import TrackingConfig

logger = logging.getLogger(__name__)

TRACKING = "tracking"
"""Folder of the log in an output folder."""
LOG = "log.jsonl"
DELIVERED = "delivered.json"
"""What is delivered of the log, see `ucn.training.tracking.delivery`."""
METRICS_AT_ONCE = 1000
"""Limit of MLflow's for one request."""

Entry = dict[str, Any]
Status = Literal["RUNNING", "FINISHED", "FAILED"]


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


@dataclass(frozen=True)
class ModelLink:
    """A trained model that a run made or read.

    Attributes:
        name: shown in MLflow.
        sha256: of the weights; a model is one logged model of an experiment, however often it is
            made or read.
        place: folder or URI.
        tags: of the logged model and of the registered version.
        registered: registered model that it becomes a version of; None registers none.
    """

    name: str
    sha256: str
    place: str
    tags: Mapping[str, str]
    registered: str | None = None


class RunLog:
    """Appends to one run of a log. Several processes may append to one log.

    Each value of a metric is logged once: steps up to the last one that the log has of this metric
    are left out, since a resumed run repeats them. Lines are not flushed to the disk one by one: a
    kill loses none, a power failure the last few seconds. No error of the log stops a run.

    Args:
        folder: of the log; with None every method does nothing.
        id: of the run, unique among all runs.
    """

    def __init__(self, folder: Path | None, id: str = "") -> None:
        self.id = id
        self._folder = folder
        self._lock = threading.Lock()
        self._last: dict[str, int] = {}
        for entry, _ in read_log(folder) if folder else ():
            if entry.get("run") == id and entry.get("kind") == "metrics":
                self._last |= dict.fromkeys(entry["values"], entry["step"])

    @property
    def is_active(self) -> bool:
        """Whether anything is logged."""
        return self._folder is not None

    def log_metrics(
        self,
        metrics: Mapping[str, float],
        step: int = 0,
        model: ModelLink | None = None,
        dataset: DatasetLink | None = None,
    ) -> None:
        """Log metrics of a step; MLflow refuses ``@`` and the degree sign in their names.

        Args:
            model: that they are scores of; logged before.
            dataset: that the model was scored on.
        """
        with self._lock:
            values = {
                name: float(value)
                for name, value in metrics.items()
                if step > self._last.get(name, -1)
            }
            self._last |= dict.fromkeys(values, step)
        names = list(values)
        for start in range(0, len(names), METRICS_AT_ONCE):
            self._append(
                "metrics",
                step=step,
                values={name: values[name] for name in names[start : start + METRICS_AT_ONCE]},
                model=model and model.sha256,
                dataset=dataset and [dataset.name, dataset.digest],
            )

    def file(self, name: str) -> Path:
        """Path at which to write a file that only MLflow needs, before it is logged."""
        assert self._folder is not None, "nothing is logged"
        return self._folder / "files" / self.id / name

    def log_artifact(self, path: Path, folder: str = "", table: bool = False) -> None:
        """Log a file as an artifact; it is sent as it is now, or not at all.

        Args:
            path: of the file.
            folder: of the artifact, in the run.
            table: show it as a table: a JSON file with ``columns`` and ``data``.
        """
        if self._folder is not None:
            self._append(
                "artifact",
                file=os.path.relpath(path, self._folder),
                folder=folder,
                sha256=file_sha256(path),
                table=table,
            )

    def log_model(self, model: ModelLink, files: Path | None = None, step: int = 0) -> None:
        """Link the run to a model.

        Args:
            files: folder of a model that the run made; it is sent. None for one that it read.
            step: after which the model was made.
        """
        if self._folder is not None:
            place = files and os.path.relpath(files, self._folder)
            values = asdict(model) | {"place": redact(model.place)}
            self._append("model", **values, files=place, step=step)

    def set_status(self, status: Status) -> None:
        """End the run, or mark it as running again."""
        self._append("status", status=status)

    def _append(self, kind: str, **values: Any) -> None:
        if self._folder is None:
            return
        entry = {"kind": kind, "run": self.id, "time": int(time.time() * 1000)} | values
        try:
            with self._lock:
                _append_line(self._folder / LOG, json.dumps(entry).encode() + b"\n")
        except OSError as error:
            logger.warning(
                "%s: cannot be written (%s); metrics are lost", self._folder / LOG, error.strerror
            )


def start_run(
    folder: Path,
    config: TrackingConfig,
    name: str,
    key: str,
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    datasets: Sequence[DatasetLink] = (),
    parent: RunLog | None = None,
) -> RunLog:
    """Start a run in a log, or go on with one of the same key.

    That is the last run without a parent, or any run below the same parent.

    Args:
        folder: of the log.
        config: the server and the experiment.
        name: shown in MLflow.
        key: identifies the work; a resumed run has the same.
        params: nested mappings are flattened to dotted names.
        tags: of the run; digests of the datasets are added.
        parent: the run that this one is a part of.
    """
    above = parent.id if parent else None
    started = [entry for entry in _runs(folder) if entry["parent"] == above]
    for entry in started if parent else started[-1:]:
        if entry["key"] == key:
            run = RunLog(folder, entry["run"])
            run.set_status("RUNNING")
            return run
    run = RunLog(folder, uuid.uuid4().hex)
    run._append(
        "run",
        name=name,
        key=key,
        parent=above,
        uri=redact(config.uri),
        experiment=config.experiment,
        params=flatten(params),
        tags=flatten(tags) | {f"manifest_sha256.{one.name}": one.digest for one in datasets},
        datasets=[asdict(one) | {"source": redact(one.source)} for one in datasets],
    )
    return run


def last_run(output: Path) -> Entry | None:
    """The line that starts the last run in an output folder's log; None without runs."""
    return next(reversed(_runs(output / TRACKING)), None)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested mappings to dotted names; values become text of at most 500 characters."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = redact(str(value))[:500]
    return flat


class Line(NamedTuple):
    """An entry, and the byte after its line. An entry is empty where its line is damaged."""

    entry: Entry
    end: int


def read_log(folder: Path, start: int = 0) -> Iterator[Line]:
    """Read the complete lines of a log from byte ``start`` on; nothing if there is none."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                start += len(line)
                yield Line(_decode(line), start)
    except (FileNotFoundError, NotADirectoryError):
        return


def _runs(folder: Path) -> list[Entry]:
    return [line.entry for line in read_log(folder) if line.entry.get("kind") == "run"]


def _decode(line: bytes) -> Entry:
    """Decode a line; a process that was killed while writing leaves a part of one."""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) and {"kind", "run"} <= entry.keys() else {}


def _append_line(path: Path, line: bytes) -> None:
    """Append a line in one write; end the line of a killed process first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, b"\n" + line if is_torn else line)
    finally:
        os.close(descriptor)
