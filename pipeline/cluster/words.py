"""Times in words."""

from datetime import UTC, datetime


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago something was: ``12 min ago``; nothing is known of None."""
    return f"{lasting(moment, now)} ago" if moment else ""


def lasting(start: datetime | None, end: datetime | None = None) -> str:
    """How long something took or takes, in its largest whole unit.

    Args:
        start: when it began; None gives an empty text.
        end: None for now.
    """
    if start is None:
        return ""
    seconds = max(0, int(((end or datetime.now(UTC)) - start).total_seconds()))
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
