"""What a probe finds, as a line of text and for machines."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ucn.storage.addresses import redact

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        status: ``warning`` may do harm, ``problem`` will.
        text: what was found.
        remedy: what to do; empty where all is well.
    """

    name: str
    status: Status
    text: str
    remedy: str = ""

    def without_secrets(self) -> "Finding":
        """The same, with every URI in it cut to what may be shown."""
        return replace(self, text=redact(self.text), remedy=redact(self.remedy))


def as_lines(findings: Sequence[Finding]) -> str:
    """A line each, and one that counts."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = [
        f"{finding.status:8} {finding.name:{width}}  {finding.text}"
        + (f"; {finding.remedy}" if finding.remedy else "")
        for finding in findings
    ]
    return "\n".join([*lines, "", _count(findings)])


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The same for machines."""
    return [asdict(finding) for finding in findings]


def has_problem(findings: Sequence[Finding]) -> bool:
    """Whether something must be mended."""
    return any(finding.status == "problem" for finding in findings)


def _count(findings: Sequence[Finding]) -> str:
    counts = []
    for status in ("problem", "warning"):
        number = sum(finding.status == status for finding in findings)
        if number:
            counts.append(f"{number} {status}{'s' if number > 1 else ''}")
    return ", ".join(counts) or "no problems"
