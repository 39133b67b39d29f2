"""Errors of input: the user must mend it (`UserError`), or one pair is left out (`SkippedPair`)."""


class UserError(Exception):
    """An error that the user must mend. The message is one line: file or option, cause, remedy."""


class SkippedPair(Exception):
    """One image pair gives no sample; the rest goes on.

    Args:
        reason: short and stable, so that pairs can be counted by it (``truncated scan``).
        detail: what was seen, usually the file, relative to the dataset's root.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["SkippedPair"], tuple[str, str]]:
        return SkippedPair, (self.reason, self.detail)
