"""Results of checks, and checks run in parallel with a time limit."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ucn.errors import UserError
from ucn.storage.addresses import redact

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Finding:
    """Result of one check. A ``problem`` makes a stage fail, a ``warning`` can."""

    name: str
    status: Literal["ok", "warning", "problem"]
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        run: returns the results; raises UserError for a problem.
        hint: remedy if it does not finish in time.
    """

    name: str
    run: Callable[[], list[Finding]]
    hint: str = "try again when the machine is less busy"


def run_checks(checks: Sequence[Check], timeout_s: float = TIMEOUT_S) -> list[Finding]:
    """Runs all checks in parallel.

    Args:
        checks: what to run.
        timeout_s: time limit of all checks together; an unfinished one is a problem.

    Returns:
        The findings in the order of the checks, without credentials.
    """
    results: queue.SimpleQueue[tuple[int, list[Finding]]] = queue.SimpleQueue()

    def run(index: int, check: Check) -> None:
        results.put((index, _run(check)))

    for task in enumerate(checks):
        # A daemon thread that hangs, for example on a network disk, does not keep the process.
        threading.Thread(target=run, args=task, daemon=True).start()
    late = f"no answer within {timeout_s:.0f} s"
    found = [[Finding(check.name, "problem", late, check.hint)] for check in checks]
    deadline = time.monotonic() + timeout_s
    for _ in checks:
        try:
            index, findings = results.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[index] = findings
    return [
        replace(finding, text=redact(finding.text), remedy=redact(finding.remedy))
        for findings in found
        for finding in findings
    ]


def _run(check: Check) -> list[Finding]:
    try:
        return check.run()
    except UserError as error:
        return [Finding(check.name, "problem", " ".join(str(error).split()))]
    except Exception as error:  # noqa: BLE001 - the other checks still tell something
        # Without the error's text, which can contain credentials.
        return [Finding(check.name, "problem", f"the check failed ({type(error).__name__})")]


def as_lines(findings: Sequence[Finding]) -> str:
    """One line a finding, and the number of problems and warnings."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = [
        f"{finding.status:8} {finding.name:{width}}  {finding.text}"
        + (f"; {finding.remedy}" if finding.remedy else "")
        for finding in findings
    ]
    statuses = [str(finding.status) for finding in findings]
    counts = [
        f"{number} {status}{'s' if number > 1 else ''}"
        for status in ("problem", "warning")
        if (number := statuses.count(status))
    ]
    return "\n".join([*lines, "", ", ".join(counts) or "no problems"])
