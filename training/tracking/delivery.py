"""Delivery of a log to MLflow: in order, each line once, in one background thread.

``OUTPUT/tracking/delivered.json`` holds, for each server, the byte that delivery has reached, and
MLflow's ids of the runs and models. If an answer is lost, a line is delivered again: runs and
models are found by their tags, and MLflow's databases store equal points of a metric once.
"""

import json
import logging
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ucn.errors import UserError
from ucn.storage.addresses import redact, sqlite_path, sqlite_uri
from ucn.storage.files import write_json
from ucn.storage.lock import file_lock
from ucn.storage.retry import backoff
from ucn.training.config import TrackingConfig
from ucn.training.tracking.log import (
    DELIVERED,
    LOG,
    METRICS_AT_ONCE,
    TRACKING,
    Line,
    RunLog,
    last_run,
    read_log,
    start_run,
)
from ucn.training.tracking.mirror import Upload, is_remote, pull
from ucn.training.tracking.server import EXPERIMENT, Server, brief, is_transient

logger = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""Seconds that the end of a run waits for undelivered lines, and `sync` for an answer."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
POLL_S = 1.0
"""Seconds between looks for lines of other processes."""
ATTEMPTS = 5
"""Failed attempts after which a line is left out if the server answers other requests."""


class Tracker:
    """Logs runs into an output folder, and delivers them in the background while MLflow answers.

    Lines that other processes append to the log are delivered, too. As a context manager it waits
    at the end, for at most `PATIENCE_S`, until all is delivered; what is not stays in the log.

    Args:
        output: folder or URI; the log is in ``tracking/``.
        config: with ``enabled`` false nothing is logged.
    """

    def __init__(self, output: Path | str, config: TrackingConfig) -> None:
        output, uri = str(output), config.uri
        if (database := sqlite_path(uri)) is not None:
            # Holds in any working directory.
            uri = sqlite_uri(database) + "".join(uri.partition("?")[1:])
        self._config = config.model_copy(update={"uri": uri})
        self._delivery: Delivery | None = None
        if config.enabled:
            self._folder = pull(output).absolute() / TRACKING
            upload = Upload(output) if is_remote(output) else None
            self._delivery = Delivery(self._folder, uri, upload)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
        if self._delivery is not None:
            self._delivery.close()

    def start(self, name: str, key: str, **content: Any) -> RunLog:
        """Start a run or go on with it, as :func:`start_run`."""
        if self._delivery is None:
            return RunLog(None)
        run = start_run(self._folder, self._config, name, key, **content)
        self._delivery.start()
        return run

    def run_id(self, run: RunLog) -> str | None:
        """MLflow's id of a run; None until MLflow has it."""
        return self._delivery.ids.get(run.id) if self._delivery is not None else None


def sync(output: Path, uri: str) -> Counter[str]:
    """Deliver what the log of an output folder holds and a server does not have.

    Returns:
        how many ``runs``, ``metrics``, ``artifacts``, ``models`` were delivered, and how many lines
        were ``refused``.

    Raises:
        UserError: another process delivers the log, or MLflow does not answer.
    """
    folder = output / TRACKING
    delivery = Delivery(folder, uri)
    with file_lock(folder):
        error = delivery.deliver()
    if error is not None:
        raise UserError(
            f"{delivery.server}: MLflow does not answer ({brief(error)}); {folder / LOG} still has "
            f"{delivery.count_waiting()} lines for it; start the server and run ucn sync again"
        )
    return delivery.counts


def experiment_page(output: Path) -> str | None:
    """Address of the last run's experiment, in MLflow's view of model training.

    None while MLflow has not received this run.

    MLflow opens an experiment in the view that the browser showed last; the address says which. For
    a database it is that of `mlflow server` on this machine.
    """
    run = last_run(output)
    server = str(run["uri"]) if run else ""
    ids = _read_delivered(output / TRACKING).get(server, {}).get("ids", {})
    if run is None or run["run"] not in ids:
        return None
    place = server.rstrip("/") if server.startswith("http") else "http://127.0.0.1:5000"
    return f"{place}/#/experiments/{ids[EXPERIMENT]}?workflowType=machine_learning"


class Delivery:
    """Delivers a log to one server, from where an earlier delivery ended.

    The beginning and the end of an outage are logged. Lines that the server refuses, though it
    answers other requests, are left out, with one warning for each reason.

    Args:
        folder: of the log.
        uri: of the server.
        upload: of the log; then only lines that are uploaded are delivered.

    Attributes:
        server: the URI without credentials.
        ids: MLflow's ids of runs and models.
        counts: of what was delivered, by kind.
    """

    def __init__(self, folder: Path, uri: str, upload: Upload | None = None) -> None:
        self._folder, self._upload = folder, upload
        self.server = redact(uri)
        self.ids: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self._client = Server(uri, folder, self.ids)
        self._changed = threading.Condition()
        self._closing = False
        self._abandoned = False
        self._reasons: set[str] = set()
        self._away_since: float | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Deliver in the background until `close` is called."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="tracking", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait until all is delivered, at most `PATIENCE_S`, and stop."""
        if self._thread is None:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(PATIENCE_S)
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()
        self._thread.join(POLL_S)
        if self._upload:
            self._upload.upload()
        if waiting := self.count_waiting():
            logger.warning(
                "%s: %d lines of %s were not delivered to MLflow; run `ucn sync %s` later",
                self.server,
                waiting,
                self._folder / LOG,
                self._upload.output if self._upload else self._folder.parent,
            )

    def deliver(self) -> Exception | None:
        """Deliver all lines. Only the process that holds the folder's lock may call this.

        Returns:
            the error if the server has not answered for `PATIENCE_S`.
        """
        self._closing = True
        return self._deliver()

    def count_waiting(self) -> int:
        """Number of lines that are not delivered."""
        return sum(1 for _ in read_log(self._folder, self._read_delivered()))

    def _read_delivered(self) -> int:
        """Read the ids; return the byte that delivery has reached."""
        delivered = _read_delivered(self._folder).get(self.server, {})
        self.ids |= delivered.get("ids", {})
        return int(delivered.get("bytes", 0))

    def _follow(self) -> None:
        while not self._abandoned:
            try:
                with file_lock(self._folder):
                    self._deliver()
                return
            except UserError:
                # Another process delivers the log; it may be killed, or end too early.
                self._wait(POLL_S)

    def _deliver(self) -> Exception | None:
        start = self._read_delivered()
        alone, failures, waits = 0, 0, backoff(FIRST_WAIT_S, LONGEST_WAIT_S)
        while not self._abandoned:
            if self._upload:
                self._upload.renew(at_once=self._closing)
            group = self._next(start, alone=alone > 0)
            if not group:
                if self._closing:
                    return None
                self._wait(POLL_S)
                continue
            try:
                is_last = failures >= ATTEMPTS and self._answers()
                self.counts.update(self._client.deliver([line.entry for line in group]))
            except Exception as error:  # noqa: BLE001 - no error of tracking stops a run
                # A server that refuses all, such as for a wrong password, has not seen the line.
                if not is_last and (is_transient(error) or not self._answers()):
                    failures += 1
                    if self._is_given_up(error):
                        return error
                    if self._wait(next(waits)):
                        waits = backoff(FIRST_WAIT_S, LONGEST_WAIT_S)
                    continue
                if len(group) > 1:
                    # One bad line fails the whole request.
                    alone = len(group)
                    continue
                self._refuse(error)
            else:
                self._log_recovery()
            alone, failures, waits = max(0, alone - 1), 0, backoff(FIRST_WAIT_S, LONGEST_WAIT_S)
            start = group[-1].end
            delivered = _read_delivered(self._folder)
            delivered[self.server] = {"bytes": start, "ids": self.ids}
            write_json(self._folder / DELIVERED, delivered)
        return None

    def _next(self, start: int, alone: bool) -> list[Line]:
        """The first line; with the next lines of metrics of the same run, if it holds metrics."""
        group: list[Line] = []
        count = 0
        for line in read_log(self._folder, start):
            if self._upload and line.end > self._upload.end:
                break
            values = line.entry.get("values", ())
            count += len(values)
            if group and (
                not values or line.entry["run"] != group[0].entry["run"] or count > METRICS_AT_ONCE
            ):
                break
            group.append(line)
            if alone or not values:
                break
        return group

    def _wait(self, seconds: float) -> bool:
        """Wait; return True, and early, if `close` is called meanwhile."""
        with self._changed:
            if self._closing:
                self._changed.wait_for(lambda: self._abandoned, seconds)
                return False
            return self._changed.wait_for(lambda: self._closing, seconds)

    def _answers(self) -> bool:
        try:
            self._client.probe()
        except Exception:  # noqa: BLE001 - only whether it answers counts
            return False
        return True

    def _refuse(self, error: Exception) -> None:
        self.counts["refused"] += 1
        if (reason := brief(error)) not in self._reasons:
            self._reasons.add(reason)
            logger.warning("%s: MLflow refuses an entry (%s)", self.server, reason)

    def _is_given_up(self, error: Exception) -> bool:
        """Log the beginning of an outage; return whether the end waits no longer for its end."""
        if self._away_since is None:
            self._away_since = time.monotonic()
            logger.warning(
                "%s: MLflow does not answer (%s); going on, and trying again",
                self.server,
                brief(error),
            )
        return self._closing and time.monotonic() - self._away_since > PATIENCE_S

    def _log_recovery(self) -> None:
        if self._away_since is not None:
            seconds = time.monotonic() - self._away_since
            self._away_since = None
            logger.info("%s: MLflow answers again, after %.0f s", self.server, seconds)


def _read_delivered(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / DELIVERED).read_text()))
    except FileNotFoundError:
        return {}
