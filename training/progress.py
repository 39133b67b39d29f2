"""What the driver of a run hears from its workers, and the progress line that it shows."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ucn.images.draw import Picture, write_picture
from ucn.notice import notice
from ucn.training.loop.state import Metrics
from ucn.training.tracking.log import RunLog

POLL_S = 0.5
LOG_INTERVAL_S = 10.0
SHOWN = (
    ("loss", "loss", "{:.4f}"),
    ("hit_ratio", "hits", "{:.2f}"),
    ("validation/pck/3", "pck/3", "{:.1f}"),
    ("validation/pck/10", "pck/10", "{:.1f}"),
    ("pairs_per_second", "pairs/s", "{:.1f}"),
    ("workers", "workers", "{:.0f}"),
)
"""Metric, label and format of each part of the line."""


class Messages:
    """Takes what the workers report; runs as a Ray actor on the driver's node.

    It holds the latest metrics and the first user error, and writes the log, which need not be on a
    file system that the workers see.

    Args:
        folder, run: of the log, as for `RunLog`.
    """

    def __init__(self, folder: Path | None, run: str) -> None:
        self._run = RunLog(folder, run)
        self._step = -1
        self._metrics: Metrics = {}
        self._user_error: str | None = None

    def put(self, step: int, metrics: Metrics) -> None:
        """Log and show metrics; those that ``metrics`` lacks keep their values."""
        self._step, self._metrics = step, self._metrics | metrics
        self.log(metrics, step)

    def log(self, metrics: Metrics, step: int) -> None:
        """Log metrics, except those that the log has."""
        self._run.log_metrics(metrics, step)

    def log_picture(self, folder: str, name: str, picture: Picture) -> None:
        """Log a picture as an artifact."""
        path = self._run.file(f"{folder}/{name}")
        write_picture(path, picture)
        self._run.log_artifact(path, folder)

    def get(self) -> tuple[int, Metrics]:
        """Return the last step, -1 before the first, and the latest metrics."""
        return self._step, self._metrics

    def report_user_error(self, message: str) -> None:
        """Keep the message of a `UserError`, unless another one came first."""
        self._user_error = self._user_error or message

    def user_error(self) -> str | None:
        """Return the message of the first `UserError`."""
        return self._user_error


@contextmanager
def progress_line(steps: int, read: Callable[[], tuple[int, Metrics]]) -> Iterator[None]:
    """Show the progress of a run on standard error during the block.

    Args:
        steps: of the whole run.
        read: returns what `Messages.get` does.
    """
    line = ProgressLine(steps)
    ended = threading.Event()

    def show() -> None:
        step, metrics = read()
        with notice("starting the workers of Ray Train"):
            while step < 0 and not ended.wait(POLL_S):
                step, metrics = read()
        line.update(step, metrics)
        while step < steps - 1 and not ended.wait(POLL_S):
            step, metrics = read()
            line.update(step, metrics)
        line.close()
        with notice("ending the workers of Ray Train"):
            ended.wait()

    thread = threading.Thread(target=show, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        line.update(*read())
        line.close()


class ProgressLine:
    """One line: steps, loss, hit ratio, validation PCK, pairs a second, workers, time left.

    On a terminal the line is redrawn. Elsewhere a new line is written every `LOG_INTERVAL_S`.

    Args:
        steps: of the whole run.
        stream: where to write; standard error by default.
    """

    def __init__(self, steps: int, stream: TextIO | None = None) -> None:
        self._steps = steps
        self._stream = sys.stderr if stream is None else stream
        self._first: tuple[int, float] | None = None
        self._shown_step = -1
        self._shown_at = -LOG_INTERVAL_S
        self._is_open = False

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the metrics of ``step`` (from 0); -1 before the first step."""
        now = time.monotonic()
        if step < 0 or step == self._shown_step:
            return
        if self._first is None:
            # The time left is estimated from the steps since the last restart only.
            self._first = step, now
        is_terminal = self._stream.isatty()
        done = step + 1
        if not is_terminal and now - self._shown_at < LOG_INTERVAL_S and done < self._steps:
            return
        self._shown_step, self._shown_at = step, now
        line = self.describe(step, metrics, now)
        self._stream.write(f"\r\x1b[K{line}" if is_terminal else f"{line}\n")
        self._stream.flush()
        self._is_open = is_terminal

    def describe(self, step: int, metrics: Mapping[str, float], now: float) -> str:
        """Format the line."""
        parts = [f"train {step + 1}/{self._steps}"]
        parts += [f"{label} {form.format(metrics[n])}" for n, label, form in SHOWN if n in metrics]
        if self._first is not None and step > self._first[0]:
            pace = (now - self._first[1]) / (step - self._first[0])
            minutes, seconds = divmod(round(pace * (self._steps - step - 1)), 60)
            parts.append(f"{minutes}:{seconds:02d} left")
        return ", ".join(parts)

    def close(self) -> None:
        """End the line on a terminal."""
        if self._is_open:
            self._stream.write("\n")
        self._is_open = False
