"""What the workers of a run tell its driver: how far they are, and what the user must mend."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ucn.training.loop.state import Metrics
from ucn.training.progress import ProgressLine

POLL_S = 0.5


class Messages:
    """Carries the metrics of the last step, and what the user must mend, to the driver."""

    def __init__(self) -> None:
        self._step = -1
        self._metrics: Metrics = {}
        self._first_mistake: str | None = None

    def put(self, step: int, metrics: Metrics) -> None:
        """Keep the metrics of a step beside the latest of those that come more seldom."""
        self._step, self._metrics = step, self._metrics | metrics

    def get(self) -> tuple[int, Metrics]:
        """Read the last step, -1 before the first, and the metrics."""
        return self._step, self._metrics

    def report_user_error(self, message: str) -> None:
        """Keep the first message of a user's error."""
        self._first_mistake = self._first_mistake or message

    def user_error(self) -> str | None:
        """Read the message of a user's error."""
        return self._first_mistake


@contextmanager
def progress_line(steps: int, read: Callable[[], tuple[int, Metrics]]) -> Iterator[None]:
    """Show the progress of a run during the block.

    Args:
        steps: of the whole run.
        read: gives what `Messages.get` does.
    """
    line = ProgressLine(steps)
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(POLL_S):
            line.update(*read())

    thread = threading.Thread(target=show, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        line.update(*read())
        line.close()
