"""The progress line of a training run, on standard error."""

import sys
import time
from collections.abc import Mapping
from typing import TextIO

SHOWN = (
    ("loss", "loss", "{:.4f}"),
    ("hit_ratio", "hits", "{:.2f}"),
    ("validation/pck/3", "pck/3", "{:.1f}"),
    ("validation/pck/10", "pck/10", "{:.1f}"),
    ("pairs_per_second", "pairs/s", "{:.1f}"),
    ("workers", "workers", "{:.0f}"),
)
LOG_INTERVAL_S = 10.0


class ProgressLine:
    """One line: steps, loss, hit ratio, validation PCK, pairs a second, workers, time left.

    On a terminal the line is redrawn; elsewhere a new one is written now and then.

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

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the metrics of ``step`` (from 0); -1 before the first step."""
        now = time.monotonic()
        if step < 0 or step == self._shown_step:
            return
        if self._first is None:
            # What was done before a restart says nothing about the time left.
            self._first = step, now
        is_terminal = self._stream.isatty()
        done = step + 1
        if not is_terminal and now - self._shown_at < LOG_INTERVAL_S and done < self._steps:
            return
        self._shown_step, self._shown_at = step, now
        line = self.describe(step, metrics, now)
        self._stream.write(f"\r\x1b[K{line}" if is_terminal else f"{line}\n")
        self._stream.flush()

    def describe(self, step: int, metrics: Mapping[str, float], now: float) -> str:
        """Put the line together."""
        parts = [f"train {step + 1}/{self._steps}"]
        parts += [f"{label} {form.format(metrics[n])}" for n, label, form in SHOWN if n in metrics]
        if self._first is not None and step > self._first[0]:
            pace = (now - self._first[1]) / (step - self._first[0])
            minutes, seconds = divmod(round(pace * (self._steps - step - 1)), 60)
            parts.append(f"{minutes}:{seconds:02d} left")
        return ", ".join(parts)

    def close(self) -> None:
        """Leave the line as it is."""
        if self._stream.isatty() and self._shown_step >= 0:
            self._stream.write("\n")
