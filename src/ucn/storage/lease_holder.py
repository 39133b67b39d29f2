"""Who holds the lease of an output folder, as it is written down and as it is told."""

import os
import re
import socket
import uuid
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ucn.errors import UserError

LEASE = ".lease"
"""The file, or object, that stands in an output folder while a driver works in it."""
LARGEST_BYTES = 4096
"""More is not read of it."""
EXPIRY_VARIABLE = "UCN_LEASE_S"
_EXPIRY_S, _SHORTEST_S, _LONGEST_S = 60.0, 3.0, 3600.0


class Holder(BaseModel):
    """The content of a lease. What does not fit, others have written: it is never shown.

    Attributes:
        host, process: where the driver runs.
        since: when it began, UTC, by its own clock: for people, never compared.
        token: tells drivers apart.
        beat: counts renewals, so that no two contents are equal.
        expiry_s: seconds without renewal after which others may take over.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(pattern=r"^[A-Za-z0-9._-]{1,255}$")
    process: int
    since: str = Field(pattern=r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$")
    token: str = Field(pattern=r"^[0-9a-f]{32}$")
    beat: int = 0
    expiry_s: float = Field(ge=_SHORTEST_S, le=_LONGEST_S)

    def __str__(self) -> str:
        return f"host {self.host}, process {self.process}, since {self.since}"


def this_driver() -> Holder:
    """A new lease of this process.

    Raises:
        UserError: the environment asks for an expiry that cannot be.
    """
    return Holder(
        host=re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:255] or "unknown",
        process=os.getpid(),
        since=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        token=uuid.uuid4().hex,
        expiry_s=_expiry_s(),
    )


def parse_holder(data: bytes) -> Holder | None:
    """The holder that a lease names; None where it names none."""
    try:
        return Holder.model_validate_json(data)
    except ValidationError:
        return None


def refusal(folder: str, holder: Holder | None) -> UserError:
    """Say that another run has the folder."""
    return UserError(
        f"{folder}: another run writes here ({holder or 'it does not say which'}); wait until it "
        "has finished, end it, or choose another output folder"
    )


def _expiry_s() -> float:
    text = os.environ.get(EXPIRY_VARIABLE, str(_EXPIRY_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise UserError(
            f"{EXPIRY_VARIABLE}={text}: not a number of seconds from {_SHORTEST_S:g} to "
            f"{_LONGEST_S:g}; correct it, or leave it out"
        )
    return seconds
