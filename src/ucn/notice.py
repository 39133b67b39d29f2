"""Says on standard error what a command is waiting for."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

FIRST_S, EVERY_S = 1.0, 5.0


@contextmanager
def notice(text: str) -> Iterator[None]:
    """Says what the block does if it takes longer than a second, and again every five seconds.

    Args:
        text: what the block does, such as ``starting Ray``.
    """
    ended = threading.Event()
    start = time.monotonic()

    def show() -> None:
        wait_s = FIRST_S
        while not ended.wait(wait_s):
            elapsed = f", {time.monotonic() - start:.0f} s" if wait_s == EVERY_S else ""
            sys.stderr.write(f"{text} ...{elapsed}\n")
            sys.stderr.flush()
            wait_s = EVERY_S

    thread = threading.Thread(target=show, name="notice", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
