"""Errors of input: `UserError` stops a command, `SkippedPair` leaves out one image pair."""


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
