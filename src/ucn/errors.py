"""Errors of input, and words of their messages.

`UserError` stops a command, `SkippedPair` leaves out one image pair.
"""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean NAME? `` for the known name closest to a word; empty if none is close.

    Dotted names (``data.shards``) are also found by their last part.
    """
    names = {name.rpartition(".")[2]: name for name in known} | {name: name for name in known}
    close = get_close_matches(word.rpartition(".")[2], names, n=1, cutoff=0.7)
    close = get_close_matches(word, names, n=1, cutoff=0.7) or close
    return f"did you mean {names[close[0]]}? " if close else ""


def counted(number: int, noun: str) -> str:
    """Formats a number with its noun: ``1 pair``, ``1,200 pairs``, ``2 classes``."""
    plural = "es" if noun.endswith(("s", "ch")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def printable(name: str) -> str:
    """A file name whose bytes that are not UTF-8 are written as ``\\udcNN``, as Python does."""
    return name.encode(errors="backslashreplace").decode()


class UserError(Exception):
    """An error that the user can fix. The message is one line: file or option, cause, remedy."""


class SkippedPair(Exception):
    """An image pair gives no sample; processing continues with the next pair.

    Args:
        reason: short, fixed text by which skipped pairs are counted (``truncated scan``).
        detail: usually the file, relative to the dataset's root.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {printable(detail)}" if detail else reason)
        self.reason = reason
        self.detail = printable(detail)

    def __reduce__(self) -> tuple[type["SkippedPair"], tuple[str, str]]:
        return SkippedPair, (self.reason, self.detail)
